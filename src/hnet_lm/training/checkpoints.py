"""Checkpoints of a run: whole or not there.

    RUN/checkpoints/step_00001000/      a model directory that `hnet_lm.load` reads, and beside the weights
        trainer.json                    step, position in the data, best validation, the run's configuration
        optimizer/                      AdamW's moments, sharded (torch.distributed.checkpoint), for any number of ranks
        averaged.safetensors            averages of the weights, where the run keeps them
        adapter/                        what is trained with LoRA, as peft writes it; it is in the weights already
        random.pt                       torch's random states
        manifest.json                   size and CRC-32 of every file: a checkpoint that fails them is damaged

A checkpoint is written under a name that nobody reads, flushed to disk, then renamed. A stop at any moment, and a write
that fails, leave the ones before as they were. Rates, betas and weight decay are not in it: they come from the
configuration.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.training.averages import AVERAGES, AveragedWeights
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.muon import Optimizer
from hnet_lm.training.run_folder import ADAPTER, STEP_FOLDERS
from hnet_lm.training.saving import MANIFEST, REPLACED, BackgroundSave, crc_of, staged, writing

if TYPE_CHECKING:
    from hnet_lm.lora import Adapter


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run; `keep` newest and the best are kept."""

    directory: Path
    ranks: Ranks
    keep: int = 2
    adapter: "Adapter | None" = None
    """What alone is trained of the model, where that is not its own weights."""

    def save(
        self,
        step: int,
        config: HNetConfig,
        model: nn.Module,
        optimizer: Optimizer,
        trainer: dict[str, Any],
        averages: AveragedWeights | None = None,
    ) -> Path:
        """Write the checkpoint of a step. All ranks call this together.

        Raises CannotWrite on all of them; what was written of it is removed.
        """
        final = self.directory / f"step_{step:08d}"
        return staged(final, self.ranks, config, model, optimizer, trainer, averages, self.adapter).write()

    def begin(
        self,
        step: int,
        config: HNetConfig,
        model: nn.Module,
        optimizer: Optimizer,
        trainer: dict[str, Any],
        averages: AveragedWeights | None,
        then: Callable[[], None],
    ) -> BackgroundSave:
        """Copy what the checkpoint of a step holds, and write it while the run goes on; the first rank does `then`
        after it. All ranks call this together, and wait for one before they begin another.
        """
        final = self.directory / f"step_{step:08d}"
        parts = (config, model, optimizer, trainer, averages, self.adapter)
        return BackgroundSave(staged(final, self.ranks, *parts, copies=True), then)

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that is whole, and a line about each newer one that is not. The first rank alone reads
        them through; all ranks call this together.

        Raises TrainingError where a file cannot be read at all: it may be whole, and must not be taken for damaged.
        """
        damaged: list[str] = []
        whole: list[Path] = []

        def find() -> None:
            for path in reversed(self.all()):
                fault = find_damage(path)
                if fault is None:
                    whole.append(path)
                    return
                damaged.append(f"checkpoint {path} is damaged ({fault}); using the one before")

        self.ranks.on_first(find)
        return self.ranks.from_first((next(iter(whole), None), damaged))

    def all(self) -> list[Path]:
        return sorted(self.directory.glob(STEP_FOLDERS))

    def recover(self) -> None:
        """Put back a checkpoint that was being replaced when the process was killed. Raises CannotWrite."""
        for replaced in self.directory.glob(f".{STEP_FOLDERS}.{REPLACED}"):
            final = replaced.with_name(replaced.stem.removeprefix("."))
            if not final.exists():
                with writing(final):
                    replaced.rename(final)

    def leftovers(self) -> list[Path]:
        """What a process that was killed in the middle of a save, or of a removal, left behind."""
        return sorted(self.directory.glob(f".{STEP_FOLDERS}.*"))

    def prune(self, newest: Path, kept_steps: Collection[int | None]) -> None:
        """Remove what is not kept, and any of a later step: those were damaged, or the run would not be before them.

        Raises CannotWrite.
        """
        paths = self.all()
        kept = [path for path in paths if path <= newest][-self.keep :]
        names = {f"step_{step:08d}" for step in kept_steps if step is not None}
        kept += [path for path in paths if path.name in names]
        for path in [path for path in paths if path not in kept]:
            doomed = path.with_name(f".{path.name}.removed")
            shutil.rmtree(doomed, ignore_errors=True)
            with writing(path, "removed"):
                path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        for leftover in self.leftovers():
            shutil.rmtree(leftover, ignore_errors=True)


def read_trainer(path: Path) -> dict[str, Any]:
    """The trainer's part of a checkpoint: step, data position, counts, configuration."""
    return json.loads((path / "trainer.json").read_text())


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if they are all as they were written. Raises TrainingError."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, (size, crc) in manifest.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size or crc_of(file) != crc:
                return f"{name} has changed"
    except (FileNotFoundError, ValueError):
        return f"{MANIFEST} is missing or unreadable"
    except OSError as error:
        raise TrainingError(f"{error.filename or path}: cannot be read: {checkpoint.reason(error)}") from error
    return None


def publish(checkpoint_path: Path, run: Path) -> None:
    """Make the run's folder itself a model directory with this checkpoint's weights, or their averages where it has
    them. Raises CannotWrite.

    The config, without which a folder is no model, comes last; it is the same for all checkpoints of a run.
    """
    averaged = checkpoint_path / AVERAGES
    weights = averaged if averaged.exists() else checkpoint_path / checkpoint.WEIGHTS
    adapter = {f"{ADAPTER}/{file.name}": file for file in sorted((checkpoint_path / ADAPTER).glob("*"))}
    files = adapter | {checkpoint.WEIGHTS: weights, checkpoint.CONFIG: checkpoint_path / checkpoint.CONFIG}
    for name, source in files.items():
        final = run / name
        partial = final.with_name(f".{final.name}.partial")
        try:
            with writing(final):
                final.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, partial)
                checkpoint.flush(partial)
                partial.replace(final)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    with writing(run):
        checkpoint.flush(run)

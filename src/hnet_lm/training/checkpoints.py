"""Checkpoints of a run: whole or not there.

    RUN/checkpoints/step_00001000/      a model directory that `hnet_lm.load` reads, and beside the weights
        trainer.json                    step, position in the data, best validation, the run's configuration
        optimizer/                      AdamW's moments, sharded (torch.distributed.checkpoint), for any number of ranks
        averaged.safetensors            averages of the weights, where the run keeps them
        random.pt                       torch's random states
        manifest.json                   size and CRC-32 of every file: a checkpoint that fails them is damaged

A checkpoint is written under a name that nobody reads, flushed to disk, then renamed. A stop at any moment, and a write
that fails, leave the ones before as they were. Rates, betas and weight decay are not in it: they come from the
configuration.
"""

import contextlib
import io
import json
import shutil
import warnings
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.training.averages import AVERAGES, AveragedWeights
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import CannotWrite, TrainingError
from hnet_lm.training.muon import MuonWithAdamW, Optimizer, optimizers_of
from hnet_lm.training.run_folder import STEP_FOLDERS

MANIFEST = "manifest.json"
REPLACED = "replaced"


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run; `keep` newest and the best are kept."""

    directory: Path
    ranks: Ranks
    keep: int = 2

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
        partial, replaced = (self.directory / f".{final.name}.{state}" for state in ("partial", REPLACED))

        def make_room() -> None:
            with _writing(final):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)

        def finish() -> None:
            with _writing(final):
                checkpoint.write_files(config, cast(dict[str, Tensor], weights), partial)
                if averaged:
                    checkpoint.write_weights(cast(dict[str, Tensor], averaged), partial / AVERAGES)
                random = io.BytesIO()
                torch.save(_random_states(), random)  # to a file, torch would not say why it cannot
                (partial / "random.pt").write_bytes(random.getvalue())
                (partial / "trainer.json").write_text(json.dumps(trainer, indent=1))
                _write_manifest(partial)
                _flush(partial)
                if final.exists():  # damaged, or saved when something kept its validation from being made
                    shutil.rmtree(replaced, ignore_errors=True)
                    final.rename(replaced)
                partial.rename(final)
                checkpoint.flush(self.directory)

        try:
            self.ranks.on_first(make_room)
            whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights, averaged = get_model_state_dict(model, options=whole), {}
            if averages is not None:
                # the weights may be the parameters themselves, which change within the block
                weights = {name: weight.clone() for name, weight in cast(dict[str, Tensor], weights).items()}
                with averages.in_place():
                    averaged = get_model_state_dict(model, options=whole)
                    averaged = {name: weight.clone() for name, weight in cast(dict[str, Tensor], averaged).items()}
            moments = {"state": get_optimizer_state_dict(model, as_torch_takes(optimizer))["state"]}
            with _writing(final), no_warning_of_one_rank():
                state_dict_saver.save(moments, checkpoint_id=partial / "optimizer", no_dist=self.ranks.num_ranks == 1)
            self.ranks.on_first(finish)
        except CannotWrite:
            if self.ranks.is_first:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        return final

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
                with _writing(final):
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
            with _writing(path, "removed"):
                path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        for leftover in self.leftovers():
            shutil.rmtree(leftover, ignore_errors=True)


def read_trainer(path: Path) -> dict[str, Any]:
    """The trainer's part of a checkpoint: step, data position, counts, configuration."""
    return json.loads((path / "trainer.json").read_text())


def as_torch_takes(optimizer: Optimizer) -> Any:
    """The optimizer for torch.distributed.checkpoint: one, or several that are iterated over."""
    return optimizers_of(optimizer) if isinstance(optimizer, MuonWithAdamW) else optimizer


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if they are all as they were written. Raises TrainingError."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, (size, crc) in manifest.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size or _crc(file) != crc:
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
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
        partial = run / f".{name}.partial"
        source = averaged if name == checkpoint.WEIGHTS and averaged.exists() else checkpoint_path / name
        try:
            with _writing(run / name):
                shutil.copyfile(source, partial)
                checkpoint.flush(partial)
                partial.replace(run / name)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    with _writing(run):
        checkpoint.flush(run)


@contextlib.contextmanager
def _writing(path: Path, done: str = "written") -> Iterator[None]:
    """What keeps files from being written becomes one line that names `path`."""
    try:
        yield
    except CheckpointException as error:
        (failure, _), *_ = error.failures.values()
        system = _error_of_the_system(failure)
        if system is None:
            raise
        raise CannotWrite(f"{path}: cannot be {done}: {checkpoint.reason(system)}") from error
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"{path}: cannot be {done}: {checkpoint.reason(error)}") from error


def _error_of_the_system(error: BaseException | None) -> OSError | None:
    """The OSError behind an error; torch raises one of its own while it handles that."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def no_warning_of_one_rank() -> Iterator[None]:
    """torch warns where there is no process group; a run of one rank means to have none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def _random_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _write_manifest(path: Path) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    manifest = {file.relative_to(path).as_posix(): (file.stat().st_size, _crc(file)) for file in files}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _flush(path: Path) -> None:
    for entry in [path, *path.rglob("*")]:
        checkpoint.flush(entry)

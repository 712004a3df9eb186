"""A checkpoint on its way to the disk: copied, or only looked at, written under another name, and renamed.

In the background the files are written by a thread of each rank, which meet in a process group of their own, so that
nothing they wait for gets in the way of the run.
"""

import contextlib
import io
import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from hnet_lm.training.errors import CannotWrite
from hnet_lm.training.muon import MuonWithAdamW, Optimizer, optimizers_of
from hnet_lm.training.run_folder import ADAPTER

if TYPE_CHECKING:
    from hnet_lm.lora import Adapter

MANIFEST = "manifest.json"
REPLACED = "replaced"


@dataclass(frozen=True)
class Staged:
    """What a checkpoint will hold. The first rank has the whole weights, each its own moments."""

    final: Path
    ranks: Ranks
    config: HNetConfig
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    adapter: dict[str, bytes]
    moments: dict[str, Any]
    random: bytes
    trainer: str

    @property
    def partial(self) -> Path:
        """Where it is written."""
        return self.final.with_name(f".{self.final.name}.partial")

    def write(self) -> Path:
        """All ranks call this together. Raises CannotWrite on all of them; what was written is removed."""
        try:
            self.ranks.on_first(self.make_room)
            with writing(self.final), no_warning_of_one_rank():
                is_alone = self.ranks.num_ranks == 1
                state_dict_saver.save(self.moments, checkpoint_id=self.partial / "optimizer", no_dist=is_alone)
            self.ranks.on_first(self.finish)
        except CannotWrite:
            self.give_up()
            raise
        return self.final

    def make_room(self) -> None:
        """Raises CannotWrite."""
        with writing(self.final):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)

    def finish(self) -> None:
        """All but the moments, and the name that counts. Raises CannotWrite."""
        replaced = self.final.with_name(f".{self.final.name}.{REPLACED}")
        with writing(self.final):
            checkpoint.write_files(self.config, self.weights, self.partial)
            if self.averaged:
                checkpoint.write_weights(self.averaged, self.partial / AVERAGES)
            if self.adapter:
                (self.partial / ADAPTER).mkdir()
            for name, data in self.adapter.items():
                (self.partial / ADAPTER / name).write_bytes(data)
            (self.partial / "random.pt").write_bytes(self.random)
            (self.partial / "trainer.json").write_text(self.trainer)
            _write_manifest(self.partial)
            _flush(self.partial)
            if self.final.exists():  # damaged, or saved when something kept its validation from being made
                shutil.rmtree(replaced, ignore_errors=True)
                self.final.rename(replaced)
            self.partial.rename(self.final)
            checkpoint.flush(self.final.parent)

    def give_up(self) -> None:
        """Remove what was written."""
        if self.ranks.is_first:
            shutil.rmtree(self.partial, ignore_errors=True)


def staged(
    final: Path,
    ranks: Ranks,
    config: HNetConfig,
    model: nn.Module,
    optimizer: Optimizer,
    trainer: dict[str, Any],
    averages: AveragedWeights | None,
    adapter: "Adapter | None" = None,
    *,
    copies: bool = False,
) -> Staged:
    """Gather the checkpoint `final`; its tensors are those of the run unless it `copies` them. Moments are copied by
    whoever writes them. All ranks call this together.
    """
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, averaged = cast(dict[str, Tensor], get_model_state_dict(model, options=whole)), {}
    if adapter is not None:
        weights = {name: weight.cpu() for name, weight in adapter.merged().items()}
    if averages is not None or copies:  # the weights may be the parameters themselves, which change
        weights = {name: weight.clone() for name, weight in weights.items()}
    if averages is not None:
        with averages.in_place():
            found = cast(dict[str, Tensor], get_model_state_dict(model, options=whole))
            averaged = {name: weight.clone() for name, weight in found.items()}
    moments = {"state": get_optimizer_state_dict(model, as_torch_takes(optimizer))["state"]}
    random = io.BytesIO()
    torch.save(_random_states(), random)  # to a file, torch would not say why it cannot
    files = {} if adapter is None else adapter.files()
    made = (weights, averaged, files, moments, random.getvalue(), json.dumps(trainer, indent=1))
    return Staged(final, ranks, config, *made)


class BackgroundSave:
    """A checkpoint that is being written while the run goes on."""

    def __init__(self, checkpoint: Staged, then: Callable[[], None]) -> None:
        """Raises CannotWrite on all ranks where it cannot even begin."""
        self.path = checkpoint.final
        self.is_whole = False
        """Whether it is on the disk, as far as the first rank knows."""
        self._staged = checkpoint
        self._then = then
        ranks = checkpoint.ranks
        ranks.on_first(checkpoint.make_room)
        with no_warning_of_one_rank():
            moments = state_dict_saver.async_save(
                checkpoint.moments,
                checkpoint_id=checkpoint.partial / "optimizer",
                process_group=ranks.background,
                no_dist=ranks.num_ranks == 1,
            )
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._done = self._thread.submit(self._write, cast("Future[Any]", moments))

    def _write(self, moments: "Future[Any]") -> None:
        """In the thread. Raises CannotWrite."""
        with writing(self.path):
            moments.result()
        if self._staged.ranks.is_first:
            self._staged.finish()
            self.is_whole = True
            self._then()

    def wait(self) -> None:
        """Until it is written. All ranks call this together. Raises CannotWrite on all of them."""
        failure = None
        try:
            self._done.result()
        except Exception as error:  # of any kind: the other ranks wait, and hear of it first
            failure = error
        finally:
            self._thread.shutdown()
        ranks = self._staged.ranks
        self.is_whole = ranks.from_first(self.is_whole)
        heard = ranks.gathered(None if failure is None else CannotWrite(str(failure)))
        if any(heard):
            self._staged.give_up()
            raise failure or next(error for error in heard if error is not None)

    def abandon(self) -> None:
        """Wait for this rank's thread alone, whatever comes of it: the run has failed."""
        self._thread.shutdown()


def as_torch_takes(optimizer: Optimizer) -> Any:
    """The optimizer for torch.distributed.checkpoint: one, or several that are iterated over."""
    return optimizers_of(optimizer) if isinstance(optimizer, MuonWithAdamW) else optimizer


@contextlib.contextmanager
def writing(path: Path, done: str = "written") -> Iterator[None]:
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
    manifest = {file.relative_to(path).as_posix(): (file.stat().st_size, crc_of(file)) for file in files}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1))


def crc_of(file: Path) -> int:
    crc = 0
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _flush(path: Path) -> None:
    for entry in [path, *path.rglob("*")]:
        checkpoint.flush(entry)

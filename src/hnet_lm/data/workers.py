"""Reads the streams, in this process or in background processes.

Batches are numbered over all ranks and streams: batch g comes from stream g mod S, and the ranks take turns. So a rank
of R needs only every gcd(R, S)-th stream, and reads no others. For each batch g of these streams a reader yields the
batch (or None if it belongs to another rank) and the state of its stream after it. Worker w of W owns the streams w,
w + W, ... of them. Each worker sends through its own pipe, whose capacity also limits it: it works one batch ahead of
the consumer, or a few small ones. Since g determines the batch, the number of workers changes nothing.
"""

import math
import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, runtime_checkable

from hnet_lm.data.config import DataConfig
from hnet_lm.data.packed import PackedArrays
from hnet_lm.data.split import EVERYTHING, Split
from hnet_lm.data.stream import Stream
from hnet_lm.errors import DataError

CLOSE_SECONDS = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals to the whole process group are for the training process, which may want to finish its step."""


class ReadPlan(NamedTuple):
    """What to read for one rank, and from which batch on; in `states`, a stream that has not begun is None."""

    config: DataConfig
    vocab_size: int
    rank: int
    num_ranks: int
    next_batch: int
    states: Sequence[Mapping[str, Any] | None]
    split: Split = EVERYTHING

    def open_stream(self, index: int) -> Stream:
        stream = Stream(self.config, index, self.vocab_size, self.split)
        state = self.states[index]
        if state is not None:
            stream.load_state_dict(state)
        return stream

    @property
    def first_batch(self) -> int:
        """The rank's own first batch."""
        return self.next_batch + self.rank

    @property
    def stride(self) -> int:
        """The rank reads the streams of every so many batches, counted from its first one."""
        return math.gcd(self.num_ranks, self.config.streams)

    @property
    def own_streams(self) -> list[int]:
        """The streams that the rank reads."""
        return list(range(self.first_batch % self.stride, self.config.streams, self.stride))

    def is_read(self, batch: int) -> bool:
        """Whether the batch comes from a stream that the rank reads."""
        return (batch - self.first_batch) % self.stride == 0

    def is_own(self, batch: int) -> bool:
        return (batch - self.next_batch) % self.num_ranks == self.rank


class Item(NamedTuple):
    """The arrays of a batch, None if it belongs to another rank, and the state of its stream after it."""

    arrays: PackedArrays | None
    state: dict[str, Any]


@runtime_checkable
class StreamReader(Protocol):
    def receive(self, batch: int) -> Item:
        """The item of a batch of a stream that the rank reads; must be called for all of these in rising order."""
        ...

    def close(self) -> None: ...


class InProcess:
    """Reads when asked."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self._streams = {index: plan.open_stream(index) for index in plan.own_streams}

    def receive(self, batch: int) -> Item:
        stream = self._streams[batch % self._plan.config.streams]
        return Item(stream.next(self._plan.is_own(batch)), stream.state_dict())

    def close(self) -> None:
        """Nothing runs in the background."""


class Workers:
    """Reads ahead in `num_workers` processes. They end when this object is closed or its process ends."""

    def __init__(self, plan: ReadPlan, num_workers: int) -> None:
        # Spawned processes inherit neither locks nor other workers' pipes, so a dead worker is noticed at once.
        context = multiprocessing.get_context("spawn")
        self._num_streams = plan.config.streams
        self._worker_of = {stream: number % num_workers for number, stream in enumerate(plan.own_streams)}
        formats = [source.format_class for source in plan.config.sources]
        self._pipes: list[Connection] = []
        self._processes = []
        for worker in range(num_workers):
            receiver, sender = context.Pipe(duplex=False)
            # Classes are pickled by name: the receiving process imports their modules.
            arguments = (plan, worker, num_workers, sender, formats)
            process = context.Process(target=_work, args=arguments, daemon=True)
            with _signals_blocked():
                process.start()
            sender.close()
            self._pipes.append(receiver)
            self._processes.append(process)

    def receive(self, batch: int) -> Item:
        worker = self._worker_of[batch % self._num_streams]
        try:
            item = self._pipes[worker].recv()
        except (EOFError, ConnectionError) as error:
            process = self._processes[worker]
            process.join(CLOSE_SECONDS)
            raise DataError(f"data worker {worker} ended unexpectedly (exit code {process.exitcode})") from error
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()  # a worker that is sending finds its pipe closed and ends
        for process in self._processes:
            process.join(CLOSE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process inherits blocked signals, so it is protected until it can ignore them by itself."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # otherwise it would start with the process and unblock these signals
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _work(plan: ReadPlan, worker: int, num_workers: int, pipe: Connection, formats: Sequence[type | None]) -> None:
    """A worker process: reads its streams' batches in turn and sends them until nobody receives. The formats of the
    sources are there to be imported."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        num_streams = plan.config.streams
        streams = {index: plan.open_stream(index) for index in plan.own_streams[worker::num_workers]}
        batch = plan.next_batch
        while True:
            stream = streams.get(batch % num_streams)
            if stream is not None:
                pipe.send(Item(stream.next(plan.is_own(batch)), stream.state_dict()))
            batch += 1
    except ConnectionError:
        return
    except DataError as error:
        _send_last(pipe, error)
    except Exception:  # whatever it is: the parent must be told, or it would wait forever
        _send_last(pipe, RuntimeError(f"data worker {worker} failed:\n{traceback.format_exc()}"))


def _send_last(pipe: Connection, error: Exception) -> None:
    try:
        pipe.send(error)
    except ConnectionError:
        return

"""One running model: an engine on its own thread, which the event loop reaches through a queue of commands.

The event loop never waits for the model. It queues commands; between two steps the thread runs all that are queued, and
after a step it hands the events of all completions over in one call. Texts to be chunked or embedded run on a second
thread, so that a long one does not stall running completions. `Runners` are all runners of a server, by name.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from prometheus_client import Gauge

from hnet_lm.generation import Engine, EngineLimits, Event, Request, Tokenizer, Vocabulary
from hnet_lm.model import HNetLM
from hnet_lm.serving.errors import ApiError, internal_error, overloaded, shown
from hnet_lm.serving.generation_handle import GenerationHandle
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.pace import Waits
from hnet_lm.serving.work import reported_numbers

logger = logging.getLogger(__name__)

# Memory for reported numbers, as a multiple of the largest answer.
_ANSWERS_AT_ONCE = 4

P = ParamSpec("P")
T = TypeVar("T")


class ModelRunner:
    """Runs completions, and calls on the model, for one event loop."""

    def __init__(
        self,
        name: str,
        model: HNetLM,
        limits: EngineLimits,
        request_limits: RequestLimits,
        metrics: Metrics,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self._limits = request_limits
        self._max_numbers = _ANSWERS_AT_ONCE * request_limits.max_reported_numbers
        self._max_open = limits.max_active + request_limits.max_waiting
        self._max_calls = 1 + request_limits.max_waiting
        self._num_open = 0
        self._num_numbers = 0
        self._num_calls = 0
        self._metrics = metrics
        self._gauges: dict[Gauge, Callable[[], float]] = {
            metrics.active: lambda: self._engine.num_active,
            metrics.queued: lambda: self._engine.num_queued,
            metrics.calls: lambda: self._num_calls,
            metrics.state_bytes: lambda: self._engine.state_bytes,
        }
        for gauge, value in self._gauges.items():
            gauge.labels(name).set_function(value)
        # used by the model's thread only, except for three of the gauges above:
        self._engine = Engine(model, limits, tokenizer=tokenizer)
        self._waits = Waits()
        self._owners: dict[int, tuple[GenerationHandle, int]] = {}
        self._mailbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"engine of {name}", daemon=True)
        self._calls = ThreadPoolExecutor(1, thread_name_prefix=f"calls on {name}")

    @property
    def vocabulary(self) -> Vocabulary:
        return self._engine.vocabulary

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Must be called on the event loop that will use this runner."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Cancel what still runs and wait for both threads."""
        self._mailbox.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._calls.shutdown, cancel_futures=True)
        for gauge in self._gauges:
            gauge.remove(self.name)

    async def submit(self, requests: Sequence[Request], deadline: float) -> GenerationHandle:
        """Submit all or none. Raises RequestError for one that can never be served, ApiError if too many wait."""
        if self._num_open + len(requests) > self._max_open:
            raise overloaded(f"{self._num_open} completions run or wait, {self._max_open} may")
        num_numbers = reported_numbers(requests, self.model.config.num_stages)
        if self._num_numbers + num_numbers > self._max_numbers:
            raise overloaded("other answers with many log-probabilities are in progress, and no more fit into memory")
        handle = GenerationHandle(len(requests), num_numbers, deadline, self._finished, self._close)
        self._num_open += len(requests)
        self._num_numbers += num_numbers
        accepted: asyncio.Future[None] = self._loop.create_future()
        self._mailbox.put(partial(self._submit, requests, handle, accepted, deadline - self._loop.time()))
        try:
            async with asyncio.timeout_at(deadline):
                await accepted
        except BaseException:
            self._close(handle)
            raise
        self._metrics.prompt_bytes.labels(self.name).inc(sum(len(request.prompt) for request in requests))
        return handle

    async def call(
        self, function: Callable[Concatenate[HNetLM, P], T], deadline: float, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`function(model, ...)` on the second thread; once begun, it runs to its end whatever happens here."""
        if self._num_calls >= self._max_calls:
            raise overloaded(f"{self._num_calls} texts run or wait, {self._max_calls} may")
        self._num_calls += 1
        future = self._calls.submit(function, self.model, *args, **kwargs)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._call_done))
        async with asyncio.timeout_at(deadline):
            return await asyncio.wrap_future(future)

    def _call_done(self) -> None:
        self._num_calls -= 1

    def _finished(self) -> None:
        self._num_open -= 1

    def _close(self, handle: GenerationHandle) -> None:
        self._num_numbers -= handle.num_numbers
        self._num_open -= handle.num_running
        if handle.num_running:
            self._mailbox.put(partial(self._cancel, handle))

    # All methods below run on the model's thread.

    def _run(self) -> None:
        for command in self._commands():
            if command is not None:
                command()
            elif self._engine.has_work:
                self._step()
        self._fail(internal_error())

    def _commands(self) -> Iterator[Callable[[], None] | None]:
        """Every command, and None when the queue is empty; ends at the command None."""
        while True:
            try:
                command = self._mailbox.get(block=not self._engine.has_work)
            except queue.Empty:
                yield None
            else:
                if command is None:
                    return
                yield command

    def _submit(
        self, requests: Sequence[Request], handle: GenerationHandle, accepted: asyncio.Future[None], seconds: float
    ) -> None:
        submitted: list[int] = []
        try:
            self._check_wait(requests, seconds)
            for request in requests:
                submitted.append(self._engine.submit(request))
        except Exception as error:
            for engine_handle in submitted:
                self._engine.cancel(engine_handle)
            self._loop.call_soon_threadsafe(_settle, accepted, error)
            return
        self._owners |= {engine_handle: (handle, index) for index, engine_handle in enumerate(submitted)}
        self._loop.call_soon_threadsafe(_settle, accepted, None)

    def _check_wait(self, requests: Sequence[Request], seconds: float) -> None:
        """Raises ApiError if these would wait too long for others, or beyond their deadline."""
        if not self._engine.has_work:
            return
        wait, limit = self._waits.before_reading(self._engine, requests), self._limits.max_waiting_seconds
        if wait > limit:
            raise overloaded(f"the wait would be about {wait:.0f} s, {limit:g} s are allowed", wait - limit)
        needed = wait + self._waits.for_reading(requests)
        if needed > seconds:
            raise overloaded(
                f"reading its prompts beside running requests takes about {needed:.0f} s, it has {seconds:.0f} s",
                needed - seconds,
            )

    def _cancel(self, handle: GenerationHandle) -> None:
        dropped = [engine_handle for engine_handle, (owner, _) in self._owners.items() if owner is handle]
        for engine_handle in dropped:
            self._engine.cancel(engine_handle)
            del self._owners[engine_handle]
        self._waits.add_step(0.0, 0, len(dropped))
        self._metrics.cancelled.labels(self.name).inc(len(dropped))

    def _step(self) -> None:
        begin = time.perf_counter()
        num_read = self._engine.num_prompt_ids_read
        try:
            events = self._engine.step()
        except Exception:  # out of memory, or a bug: running completions fail, later ones may succeed
            logger.exception("a step of model %s failed; its %d completions end", self.name, len(self._owners))
            self._engine.cancel_all()
            self._fail(internal_error())
            return
        seconds = time.perf_counter() - begin
        num_ended = sum(event.finish_reason is not None for event in events)
        self._waits.add_step(seconds, self._engine.num_prompt_ids_read - num_read, num_ended)
        self._metrics.step_seconds.labels(self.name).observe(seconds)
        self._metrics.new_bytes.labels(self.name).inc(sum(len(event.data) for event in events))
        self._loop.call_soon_threadsafe(_deliver, [(*self._owners[event.handle], event) for event in events])
        for event in events:
            if event.finish_reason is not None:
                del self._owners[event.handle]

    def _fail(self, error: Exception) -> None:
        for handle in {id(owner): owner for owner, _ in self._owners.values()}.values():
            self._loop.call_soon_threadsafe(handle.fail, error)
        self._owners.clear()


class Runners:
    """A runner per model; a request without the name of a model gets the first.

    `awaited` are the names of models that are not there yet.
    """

    def __init__(self, by_name: Mapping[str, ModelRunner], awaited: Iterable[str] = ()) -> None:
        self._by_name = dict(by_name)
        self.awaited = list(awaited)
        assert self._by_name or self.awaited

    def __iter__(self) -> Iterator[ModelRunner]:
        return iter(self._by_name.values())

    def add(self, runner: ModelRunner) -> None:
        """Add the runner of a model that was awaited."""
        self.awaited.remove(runner.name)
        self._by_name[runner.name] = runner

    def forget(self) -> None:
        """Release the models after the last request: FastAPI's routes keep this object as long as the process lives."""
        self._by_name.clear()

    def find(self, name: str | None) -> ModelRunner:
        """Raises ApiError: 404 for a name that is not served, 503 for one that is awaited."""
        if name is None:
            name = next(iter((*self._by_name, *self.awaited)))
        if name in self.awaited:
            message = f"model {name!r} is not there yet: its run has written no checkpoint"
            raise ApiError(503, message, param="model", code="no_checkpoint_yet")
        if name not in self._by_name:
            names = ", ".join(map(repr, (*self._by_name, *self.awaited)))
            message = f"model {shown(name)!r} is not served here; there are {names}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return self._by_name[name]


def _deliver(events: Sequence[tuple[GenerationHandle, int, Event]]) -> None:
    for handle, index, event in events:
        handle.deliver(index, event)


def _settle(accepted: asyncio.Future[None], error: Exception | None) -> None:
    if accepted.done():  # nobody waits for it any more
        return
    if error is None:
        accepted.set_result(None)
    else:
        accepted.set_exception(error)

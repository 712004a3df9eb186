"""Events on their way to a route: joined where they have piled up, in turn, to their end."""

import asyncio

import pytest

from hnet_lm.generation import ByteLogprob, Event
from hnet_lm.serving.generation_handle import GenerationHandle


def handle_of(num_requests: int, seconds: float = 5.0) -> GenerationHandle:
    deadline = asyncio.get_running_loop().time() + seconds
    return GenerationHandle(num_requests, 0, deadline, lambda: None, lambda handle: None)


async def collected(handle: GenerationHandle) -> list[tuple[int, Event]]:
    return [item async for item in handle.events()]


def test_what_has_piled_up_is_one_event_and_requests_take_turns():
    async def run() -> None:
        handle = handle_of(2)
        one = [ByteLogprob(97, -0.5), ByteLogprob(98, -1.5)]
        handle.deliver(0, Event(7, b"a", "a", (one[0],)))
        handle.deliver(1, Event(8, b"x", "x"))
        handle.deliver(0, Event(7, b"b", "b", (one[1],), finish_reason="length"))
        handle.deliver(1, Event(8, b"\xe7", "", finish_reason="eos"))
        assert await collected(handle) == [
            (0, Event(7, b"ab", "ab", tuple(one), finish_reason="length")),
            (1, Event(8, b"x\xe7", "x", finish_reason="eos")),
        ]

    asyncio.run(run())


def test_events_that_report_much_are_not_joined_without_end():
    async def run() -> None:
        handle = handle_of(1)
        large = tuple(ByteLogprob(97, -1.0) for _ in range(200))
        for _ in range(3):
            handle.deliver(0, Event(7, prompt_logprobs=large))
        handle.deliver(0, Event(7, b"a", "a", finish_reason="length"))
        found = [event for _, event in await collected(handle)]
        assert [event.num_numbers for event in found] == [200, 200, 200]
        assert (found[-1].data, found[-1].finish_reason) == (b"a", "length")

    asyncio.run(run())


def test_a_failure_comes_after_what_was_there_and_the_deadline_holds_on_a_busy_stream_too():
    async def run() -> None:
        handle = handle_of(1)
        handle.deliver(0, Event(7, b"a", "a"))
        handle.fail(RuntimeError("over"))
        events = handle.events()
        assert await anext(events) == (0, Event(7, b"a", "a"))
        with pytest.raises(RuntimeError, match="over"):
            await anext(events)
        late = handle_of(1, seconds=-1)
        late.deliver(0, Event(7, b"a", "a"))
        with pytest.raises(TimeoutError):
            await collected(late)
        with pytest.raises(TimeoutError):
            await collected(handle_of(1, seconds=0.01))

    asyncio.run(run())

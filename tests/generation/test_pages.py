"""The pool of pages: every page is free or in one place, whatever comes and goes."""

import random
from collections.abc import Callable

import pytest
import torch

from hnet_lm.generation.stepper import OutOfPages, PagePool
from hnet_lm.generation.stepper.stream_memory import StreamMemory
from hnet_lm.model import HNetLM


def pages_in_tables(memory: StreamMemory, streams: list[int]) -> list[int]:
    """The pages that the tables name for the positions seen."""
    found = []
    for stage in memory.stages:
        for state in stage.states:
            for stream in streams:
                num = stage.num_pages(int(state.num_seen[stream])) // len(stage.states)
                found += state.table[stream, :num].tolist()
    return found


def test_a_pool_gives_each_page_once() -> None:
    pool = PagePool(5, 4, torch.float32, torch.device("cpu"))
    taken = pool.take(3)
    assert pool.num_free == 2
    with pytest.raises(OutOfPages, match="3 pages are needed and 2 of 5 are free"):
        pool.take(3)
    assert pool.num_free == 2
    pool.give_back(taken[:1])
    assert sorted([*pool.take(3), *taken[1:]]) == list(range(5))


def test_nothing_leaks_in_a_thousand_random_calls(make_model: Callable[..., HNetLM]) -> None:
    memory = StreamMemory(make_model(["t1", ["T2"], "t1"], windows=(20, -1)), 6, 40 * 8192, None)
    rng = random.Random(0)
    live: list[int] = []
    refused = 0
    for _ in range(1000):
        match rng.choice(["admit", "read", "read", "read", "drop"]):
            case "admit" if len(live) < 6:
                stream = rng.choice([s for s in range(6) if s not in live])
                memory.reset(stream)
                live.append(stream)
            case "drop" if live:
                memory.release(live.pop(rng.randrange(len(live))))
            case "read" if live:
                streams = rng.sample(live, rng.randint(1, len(live)))
                lengths = [rng.choice([0, 1, 1, 3, 40, 300]) for _ in streams]
                granted = memory.room(streams, lengths)
                num_free = memory.pool.num_free
                try:
                    memory.reserve(streams, lengths)
                    assert granted == lengths
                except OutOfPages:
                    refused += 1
                    assert granted != lengths
                    assert memory.pool.num_free == num_free
                    lengths = granted
                    memory.reserve(streams, lengths)
                for stage in memory.stages:  # as a forward: the outer stage sees every byte, the inner one some
                    for stream, length in zip(streams, lengths, strict=True):
                        num = length if stage is memory.stages[0] else rng.randint(min(length, 1), length)
                        for state in stage.states:
                            state.num_seen[stream] += num
                memory.trim(streams)
        used = pages_in_tables(memory, live)
        assert len(set(used)) == len(used)
        assert len(used) <= memory.pool.num_pages - memory.pool.num_free
        held = sum(memory.num_held(stream) for stream in live)
        assert held == memory.pool.num_pages - memory.pool.num_free
    assert refused > 20
    for stream in live:
        memory.release(stream)
    assert memory.pool.num_free == memory.pool.num_pages
    assert sorted(memory.pool.take(memory.pool.num_pages)) == list(range(memory.pool.num_pages))


def test_room_is_what_can_be_read_at_worst(make_model: Callable[..., HNetLM]) -> None:
    memory = StreamMemory(make_model(["t1", ["T1"], "t1"], windows=(-1, -1)), 3, 10 * 8192, None)
    for stream in range(3):
        memory.reset(stream)
    # a page of each of 3 layers for every 16 positions, and 10 pages
    assert memory.room([0, 1, 2], [100, 1, 1]) == [48, 0, 0]
    assert memory.room([0, 1, 2], [1, 17, 16]) == [1, 17, 0]
    assert memory.room([0], [0]) == [0]
    assert memory.least_pages(100) == 7 * 2 + 1
    memory.reserve([0, 1, 2], [16, 16, 1])
    assert memory.room([0, 1, 2], [100, 100, 100]) == [16, 16, 16]


def test_a_window_needs_no_more_than_its_ring(make_model: Callable[..., HNetLM]) -> None:
    memory = StreamMemory(make_model(["t1", ["m1"], "t1"], windows=(20, -1)), 3, 2**20, None)
    assert memory.pool.num_pages == 3 * 2 * 2  # a ring of 21 entries is two pages, and nothing else needs any
    for stream in range(3):
        memory.reset(stream)
    assert memory.room([0, 1, 2], [10**6] * 3) == [10**6] * 3

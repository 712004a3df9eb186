"""How much of each prompt is read in a step."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hnet_lm.generation.prompt_shares import byte_cost, prompt_shares, sees_everything
from hnet_lm.model import HNetLM


@pytest.mark.parametrize(
    ("unread", "budget", "shares"),
    [
        ([], 10, []),
        ([7], 10, [7]),
        ([30], 10, [10]),
        ([30, 30], 10, [5, 5]),
        ([30, 30, 2, 1], 10, [5, 2, 2, 1]),
        ([30, 2], 10, [8, 2]),
        ([2, 30, 30], 10, [2, 8, 0]),
        ([30, 5], 1, [1, 0]),
    ],
)
def test_half_for_the_oldest_the_rest_for_the_shortest(unread: list[int], budget: int, shares: list[int]):
    assert prompt_shares(unread, [1] * len(unread), budget) == shares


LENGTHS = st.tuples(st.integers(1, 40_000), st.integers(0, 40_000))


@given(st.lists(LENGTHS, min_size=1, max_size=20), st.integers(1, 3000))
def test_the_budget_is_kept_and_used_and_the_oldest_goes_on(prompts: list[tuple[int, int]], budget: int):
    unread = [num for num, _ in prompts]
    costs = [byte_cost(num_read) for _, num_read in prompts]
    shares = prompt_shares(unread, costs, budget)
    assert all(0 <= share <= num for share, num in zip(shares, unread, strict=True))
    assert shares[0] >= 1
    spent = sum(share * cost for share, cost in zip(shares, costs, strict=True))
    assert spent <= max(budget, costs[0])
    unserved = [cost for share, num, cost in zip(shares, unread, costs, strict=True) if share < num]
    if unserved:  # nothing is left that one of them could have been given
        assert budget - spent < max(unserved)


def test_only_attention_without_a_window_makes_bytes_cost_more(make_model: Callable[..., HNetLM]):
    assert not sees_everything(make_model(["m1", ["m2"], "m1"], windows=(-1, -1)).config)
    assert not sees_everything(make_model(["t1", ["T1"], "m1"], windows=(7, 7)).config)
    assert sees_everything(make_model(["t1", ["T1"], "m1"], windows=(7, -1)).config)
    assert (byte_cost(0), byte_cost(2047), byte_cost(2048), byte_cost(4096)) == (1, 1, 2, 3)

"""How much of each waiting prompt is read in a step."""

from collections.abc import Sequence

from hnet_lm.config import HNetConfig
from hnet_lm.layout import parse_layout

_CONTEXT = 2048
"""Attention to so many bytes is reckoned to cost as much as everything else that is done with a byte."""


def prompt_shares(unread: Sequence[int], costs: Sequence[int], budget: int) -> list[int]:
    """How many bytes of each prompt, the oldest first, are read with this budget; a byte takes `costs` of it.

    The oldest prompt has half of the budget, and at least one byte, so every prompt is read to its end however many
    come after it. The rest goes to the shortest, so none waits for one that is longer. What is left is the oldest's.
    """
    shares = [0] * len(unread)
    if not unread:
        return shares
    left = budget

    def take(index: int, most: int, least: int = 0) -> None:
        nonlocal left
        share = min(unread[index] - shares[index], max(most // costs[index], least))
        shares[index] += share
        left -= share * costs[index]

    take(0, budget // 2, least=1)
    for index in sorted(range(1, len(unread)), key=unread.__getitem__):
        take(index, max(left, 0))
    take(0, max(left, 0))
    return shares


def byte_cost(num_read: int) -> int:
    """What reading one more byte costs behind so many others, where attention sees them all; behind none it is 1.

    Reckoned so, a step takes a bounded time, and attention in it a bounded memory.
    """
    return 1 + num_read // _CONTEXT


def sees_everything(config: HNetConfig) -> bool:
    """Whether any attention layer of the model has no window."""
    configs = [config] if config.byte_model is None else [config, config.byte_model]
    return any(
        stage.of_block(i).attention.window_size < 0 and block.mixer == "attention"
        for each in configs
        for stage in each.stages
        for layout in stage.layouts.values()
        for i, block in enumerate(parse_layout(layout))
    )

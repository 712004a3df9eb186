"""The recurrence from block to block, after = decay * before + update, in either direction of time."""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.ops.kernels.launch import ceil_div, launch

COLUMNS = 512


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _pass(
    update_ptr, decay_ptr, initial_ptr, other_ptr, first_block_ptr, before_ptr, final_ptr, product_ptr,
    num_heads, width, num_parts,
    HAS_INITIAL: tl.constexpr, HAS_OTHER: tl.constexpr, REVERSE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    sequence, head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    column = part * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    begin = tl.load(first_block_ptr + sequence)
    end = tl.load(first_block_ptr + sequence + 1)
    own = (sequence * num_heads + head) * width + column
    state = tl.zeros([COLUMNS], dtype=update_ptr.dtype.element_ty)
    if HAS_INITIAL:
        state = tl.load(initial_ptr + own, mask=inside, other=0)
    for i in range(end - begin):
        block = begin + i
        if REVERSE:
            block = end - 1 - i
        row = block * num_heads + head
        update = tl.load(update_ptr + row * width + column, mask=inside, other=0)
        decay = tl.load(decay_ptr + row)
        tl.store(before_ptr + row * width + column, state, mask=inside)
        if HAS_OTHER:
            other = tl.load(other_ptr + row * width + column, mask=inside, other=0)
            tl.store(product_ptr + row * num_parts + part, decay * tl.sum(state * other, 0))
        state = decay * state + update
    if HAS_INITIAL:
        tl.store(final_ptr + own, state, mask=inside)


def pass_states(
    update: Float[Tensor, "k h width"],
    decay: Float[Tensor, "k h"],
    initial: Float[Tensor, "b h width"] | None,
    first_block: Int[Tensor, " b_plus_1"],
    other: Float[Tensor, "k h width"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Float[Tensor, "k h width"], Float[Tensor, "b h width"] | None, Float[Tensor, "k h parts"] | None]:
    """The state before each block, in the direction of time that is asked for, and the one behind each sequence.

    Without an initial state none comes out. With `other`, also parts of decay * (before . other), per block and head.
    """
    _, num_heads, width = update.shape
    columns = min(COLUMNS, triton.next_power_of_2(max(width, 1)))
    num_parts = ceil_div(width, columns)
    before = update.new_empty(update.shape)
    final = None if initial is None else update.new_empty(initial.shape)
    product = None if other is None else update.new_empty(*update.shape[:2], num_parts)
    launch(
        _pass, (len(first_block) - 1, num_heads, num_parts), update, decay,
        update if initial is None else initial.contiguous(), update if other is None else other, first_block,
        before, update if final is None else final, update if product is None else product, num_heads, width, num_parts,
        HAS_INITIAL=initial is not None, HAS_OTHER=other is not None, REVERSE=reverse, COLUMNS=columns,
    )  # fmt: skip
    return before, final, product

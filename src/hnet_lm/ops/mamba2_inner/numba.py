"""One position a sequence in one compiled loop, on the state where it lies; longer spans by the three ops."""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.mamba2_inner._composed import composed
from hnet_lm.ops.mamba2_inner._loops import step
from hnet_lm.ops.native import array, ranges, run, weight_array
from hnet_lm.sequences import Sequences


def mamba2_inner(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    seqs: Sequences,
    conv_state: Tensor | None,
    ssm_state: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    weights = (conv_weight, conv_bias, dt_bias, A_log, D, norm_weight)
    if conv_state is None or ssm_state is None or not _is_step(seqs, zxBCdt, *weights, conv_state, ssm_state):
        return composed("numba", zxBCdt, *weights, eps, seqs, conv_state, ssm_state)
    slots = seqs.busy_slots(conv_state)
    y = torch.empty(len(zxBCdt), len(norm_weight), dtype=zxBCdt.dtype)
    work = 3 * ssm_state.shape[1:].numel()
    inputs, outputs = map(weight_array, weights), (slots, conv_state, ssm_state.flatten(2), y)
    run(step, ranges(len(y), work), array(zxBCdt), *inputs, eps, *map(array, outputs))
    return y, conv_state, ssm_state


def _is_step(seqs: Sequences, *tensors: Any) -> bool:
    """Whether there is nothing to differentiate, all is of one wide type, and the states lie as the loop needs them."""
    dtype = tensors[0].dtype
    if seqs.max_length > 1 or dtype.itemsize < 4 or any(tensor.dtype != dtype for tensor in tensors):
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    return all(state.is_contiguous() for state in tensors[-2:])

"""torch's scaled_dot_product_attention, in bands where there is a window.

Sequences of one length are one batch, so no position is padded; only what a state holds is, to its longest sequence.
Time and memory grow with length times the visible span.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from hnet_lm.ops.attention._paged_kv_state import AttentionState
from hnet_lm.sequences import Sequences

MIN_BAND = 256
"""Queries at a time, at least."""
BANDS_PER_WINDOW = 4
"""A band of queries is this many times shorter than the window; each query gets the keys of the whole band."""
MOST_PAIRS = 1 << 24
"""Queries of a band times the keys that they see, about: so large is the mask."""


def attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, state: AttentionState | None
) -> tuple[Tensor, AttentionState | None]:
    if not len(q):
        return q, state
    num_held = 0 if state is None else state.num_held(window, seqs)
    if state is None or num_held == 0:
        y = _by_length(q, k, v, window, seqs, _Past(None, 0))
        return y, None if state is None else state.write(k, v, window, seqs)
    active = seqs.nonempty_only()
    if active.max_length == 1:
        return _decode(q, k, v, window, active, state)
    y = _by_length(q, k, v, window, active, _Past(state, num_held if window < 0 else min(num_held, window)))
    return y, state.write(k, v, window, active)


class _Past(NamedTuple):
    """Positions of a state that come before those of the call, as many of each sequence; some may not exist."""

    state: AttentionState | None
    span: int


def _by_length(q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, past: _Past) -> Tensor:
    """Sequences of one length side by side, so that no position is padded."""
    if seqs.is_equal:
        rows = (seqs.num_sequences, seqs.max_length)
        q, k, v = (x.unflatten(0, rows) for x in (q, k, v))  # b l h p
        return _after(past, q, k, v, window, seqs).flatten(0, 1)
    by_length: dict[int, list[int]] = {}
    for sequence, length in enumerate(seqs.host_lengths):
        if length:
            by_length.setdefault(length, []).append(sequence)
    # Split, not sliced: each slice would have a gradient as long as the whole.
    parts = tuple(x.split(seqs.host_lengths) for x in (q, k, v))
    outputs: list[Tensor] = [q[:0]] * seqs.num_sequences
    for members in by_length.values():
        queries, keys, values = (torch.stack([part[i] for i in members]) for part in parts)
        rows = _after(past, queries, keys, values, window, seqs.only(members) if past.span else seqs)
        for sequence, y in zip(members, rows.unbind(0), strict=True):
            outputs[sequence] = y
    return torch.cat(outputs)


def _after(past: _Past, q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences) -> Tensor:
    """Rows (b, l, h, p) of sequences that begin here, or that go on from what the state holds of each."""
    if past.state is None or not past.span:
        return _causal(q, k, v, window)
    first = seqs.owned(past.state.num_seen)
    past_keys, past_values, exists = past.state.visible(first, past.span, window, seqs)
    k, v = torch.cat([past_keys.to(k.dtype), k], 1), torch.cat([past_values.to(v.dtype), v], 1)
    return _causal(q, k, v, window, pad(exists, (0, q.shape[1]), value=True))


def _decode(
    q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, state: AttentionState
) -> tuple[Tensor, AttentionState]:
    """One position per sequence: written first, then attending to everything the state holds."""
    state = state.write(k, v, window, seqs)
    keys, values = state.held(window, seqs)
    held = seqs.owned(state.num_seen)[:, None] > torch.arange(keys.shape[1], device=q.device)
    return _attend(q[:, None], keys.to(q.dtype), values.to(q.dtype), held[:, None, None])[:, 0], state


def _causal(q: Tensor, k: Tensor, v: Tensor, window: int, valid: Tensor | None = None) -> Tensor:
    """Rows (b, l, h, p) of queries that are the last l of the keys' positions; `valid` (b, keys) excludes keys."""
    past, length = k.shape[1] - q.shape[1], q.shape[1]
    if valid is None and (window < 0 or window >= length - 1):
        return _attend(q, k, v, None, is_causal=True)
    span = k.shape[1] if window < 0 else window + 1
    band = min(length if window < 0 else max(span // BANDS_PER_WINDOW, MIN_BAND), max(1, MOST_PAIRS // span))
    reach = -(-window // band)  # earlier bands that a window may touch
    queries = q.split(band, 1)
    # Split, then joined for each band: each slice would have a gradient as long as the whole.
    sizes = [past + queries[0].shape[1], *(part.shape[1] for part in queries[1:])]
    keys, values = k.split(sizes, 1), v.split(sizes, 1)
    outputs = []
    for i, rows in enumerate(queries):
        num_rows, stop = rows.shape[1], past + i * band + rows.shape[1]
        if window < 0:
            some_keys, some_values = k[:, :stop], v[:, :stop]
        else:
            seen = slice(max(0, i - reach), i + 1)
            some_keys, some_values = torch.cat(keys[seen], 1), torch.cat(values[seen], 1)
        first = stop - some_keys.shape[1]
        distance = torch.arange(stop - num_rows, stop, device=q.device)[:, None] - torch.arange(
            first, stop, device=q.device
        )
        mask = (distance >= 0) if window < 0 else (distance >= 0) & (distance <= window)
        if valid is not None:
            mask = mask & valid[:, None, None, first:stop]
        outputs.append(_attend(rows, some_keys, some_values, mask))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # b h l p
    shares = q.shape[1] != k.shape[1]
    y = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=shares)
    return y.transpose(1, 2)

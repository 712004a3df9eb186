import numpy as np
import pytest
import torch

from hnet_lm.errors import UserError
from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM

TEXTS = [b"", b"a", b"The cat sat.\n", "中文😀e\u0301".encode(), bytes(range(256)), b"\0\0", b"ACGT" * 30]


def positions_of(model: HNetLM, data: bytes) -> list[tuple[list[int], np.ndarray]]:
    """Per stage the raw byte offset of each position, BOS being -1, and its probability, from the whole model."""
    out = model(torch.tensor([model.config.bos_id, *data]))
    offsets = list(range(-1, len(data)))
    found = []
    for routing in out.routings:
        found.append((offsets, routing.boundary_prob.numpy()))
        offsets = [o for o, b in zip(offsets, routing.is_boundary.tolist(), strict=True) if b]
    return found


@pytest.mark.parametrize("num_stages", [0, 1, 2, 3])
@pytest.mark.parametrize("data", TEXTS)
@pytest.mark.parametrize("piece_bytes", [1, 1000])
def test_probabilities_are_the_whole_models(models: dict[int, HNetLM], num_stages: int, data: bytes, piece_bytes: int):
    if piece_bytes == 1 and len(data) > 20:
        piece_bytes = 50
    model = models[num_stages]
    found = chunks(model, data, piece_bytes)
    assert len(found.stages) == num_stages
    for stage, (offsets, probs) in zip(found.stages, positions_of(model, data), strict=True):
        by_byte = dict(zip(offsets, probs.tolist(), strict=True))
        for offset, prob in zip(stage.offsets.tolist(), stage.boundary_prob.tolist(), strict=True):
            # a byte without a position of its own is byte 0 in the chunk of BOS
            assert prob == pytest.approx(by_byte.get(offset, by_byte[-1]), abs=1e-5)
        assert set(stage.offsets.tolist()) == {o for o in offsets if o >= 0} | ({0} if data else set())


@pytest.mark.parametrize("data", TEXTS)
def test_the_segments_of_every_stage_are_the_text_and_nest(models: dict[int, HNetLM], data: bytes):
    found = chunks(models[3], data)
    outer = set(range(len(data)))
    for stage in range(3):
        assert b"".join(found.segments(stage)) == data
        starts = set(found.stages[stage].starts.tolist())
        assert starts <= outer
        assert (0 in starts) == bool(data)
        assert found.stages[stage].lengths.sum() == len(data)
        outer = starts


def test_strings_are_utf8(models: dict[int, HNetLM]):
    assert chunks(models[1], "中").data == "中".encode()
    with pytest.raises(UserError, match="character 1 is a lone surrogate"):
        chunks(models[1], "a\udc80")


def test_probability_at_every_byte(models: dict[int, HNetLM]):
    found = chunks(models[2], b"The cat sat on the mat")
    outer, inner = found.stages
    assert not np.isnan(outer.prob_at_bytes()).any()
    assert np.flatnonzero(~np.isnan(inner.prob_at_bytes())).tolist() == outer.starts.tolist()

from collections.abc import Callable

import pytest
import torch

from hnet_lm.evaluation import ByteScorer, Passage
from hnet_lm.evaluation.embeddings import embed
from hnet_lm.model import HNet, HNetLM

DATA = b"ACGGATTACAGGCTTAAGCCTGACTTTAGGACCATGATACCA" * 2


@pytest.mark.parametrize("piece_bytes", [7, 8192])
def test_vectors_are_those_of_one_pass(model: HNetLM, piece_bytes: int) -> None:
    found = embed(model, DATA, piece_bytes=piece_bytes)
    out = model(torch.tensor([model.config.bos_id, *DATA]))
    torch.testing.assert_close(found.bytes @ model.head_weight.T, out.logits[1:])
    (score,) = ByteScorer(model, unit_starts=True).score([Passage(DATA)])
    assert score.unit_starts is not None
    assert found.chunk_starts.tolist() == score.unit_starts[-1].tolist()
    assert found.chunks.shape == (len(found.chunk_starts), 32)
    assert 1 < len(found.chunks) < len(DATA)


def test_chunk_vectors_are_what_the_innermost_stack_gives_out(binary_model: HNetLM) -> None:
    stack = binary_model.network.main_network
    assert not isinstance(stack, HNet)
    given: list[torch.Tensor] = []
    handle = stack.register_forward_hook(lambda module, inputs, outputs: given.append(outputs[0]))
    out = binary_model(torch.tensor([binary_model.config.bos_id, *DATA]))
    handle.remove()
    found = embed(binary_model, DATA)
    expected = given[0][1:] if bool(out.routings[0].is_boundary[1]) else given[0]
    torch.testing.assert_close(found.chunks, expected)
    assert not stack._forward_hooks


def test_without_chunking_and_without_text(make_model: Callable[..., HNetLM], model: HNetLM) -> None:
    found = embed(make_model(["m1t1"]), DATA)
    torch.testing.assert_close(found.chunks, found.bytes)
    assert found.chunk_starts.tolist() == list(range(len(DATA)))
    empty = embed(model, b"")
    assert (len(empty.bytes), len(empty.chunks), len(empty.chunk_starts)) == (0, 0, 0)

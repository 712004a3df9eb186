"""The match of a student's chunks with the teacher's embeddings of the tokens before them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.distillation import student_config
from hnet_lm.distillation.embeddings import NONE, Embeddings, TeacherEmbeddings, distance, tokens_before
from hnet_lm.distillation.lessons import Teacher
from hnet_lm.errors import ConfigError
from hnet_lm.losses import LOSS_TERMS, LossInputs
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking import Routing, RoutingModule
from hnet_lm.model.hnet import HNet
from hnet_lm.sequences import Sequences
from hnet_lm.testing import check_loss_term
from token_models import save_token_model

WIDTH = 8
TEXTS = ["the cat, 你好".encode(), b"xyzzy on the mat"]
BEGINS = [True, False]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("narrow") / "model"
    save_token_model(folder, d_model=WIDTH)
    return str(folder)


def packed() -> tuple[Tensor, Sequences]:
    """Both texts; the first one has BOS before it."""
    ids = torch.tensor([254, *TEXTS[0], *TEXTS[1]])
    return ids, Sequences.from_lengths([1 + len(TEXTS[0]), len(TEXTS[1])])


def inputs(chunks: Tensor, is_boundary: Tensor) -> LossInputs:
    ids, seqs = packed()
    t = len(ids)
    routing = Routing(torch.full((t,), 0.5, dtype=torch.float64), is_boundary, seqs, chunks=chunks)
    logits, hidden = torch.zeros(t, 256, dtype=torch.float64), torch.zeros(t, 4, dtype=torch.float64)
    return LossInputs(logits, ids, hidden, (routing,), seqs.with_input_ids(ids))


def written_out(source: str) -> dict[int, Tensor]:
    """By position the embedding that a chunk there is matched with, token by token."""
    teacher, wanted, position = Teacher.of(source), {}, 0
    weight = teacher.model.embedding.weight.double()
    for text, first in zip(TEXTS, BEGINS, strict=True):
        before = teacher.model.config.bos_id if first else teacher.tokenizer.encode_byte(text[0])
        position += 1  # BOS, or the byte that stands for itself
        for id in teacher.vocabulary.encode(text if first else text[1:]):
            wanted[position] = weight[before]
            position += len(teacher.vocabulary.bytes_of(id))
            before = id
    return wanted


def test_it_keeps_the_laws(source: str) -> None:
    term = LOSS_TERMS.parse({"name": "teacher_embeddings", "teacher": source}, "loss.terms")
    assert term.weight == 0.02
    check_loss_term(term)


def test_value_and_gradient_are_those_written_out(source: str) -> None:
    wanted, t = written_out(source), len(packed()[0])
    assert 8 < len(wanted) < t - 2, "tokens of several bytes, or the test says little"
    is_boundary = torch.arange(t) % 3 != 2  # some first bytes of tokens start no chunk, and other bytes do
    is_boundary[1 + len(TEXTS[0])] = True
    positions = is_boundary.nonzero()[:, 0].tolist()
    chunks = torch.randn(len(positions), WIDTH, dtype=torch.float64, requires_grad=True)
    value = TeacherEmbeddings(source).values(inputs(chunks, is_boundary))["stage0/teacher_embeddings"]
    weight = Teacher.of(source).model.embedding.weight.double()
    scale = sum(float(row @ row) for row in weight) / len(weight)
    matched = [i for i, position in enumerate(positions) if position in wanted]
    assert 3 < len(matched) < len(positions)
    expected, gradient = 0.0, torch.zeros_like(chunks)
    for i in matched:
        difference = chunks.detach()[i] - wanted[positions[i]]
        expected += float(difference @ difference) / (scale * len(matched))
        gradient[i] = 2 * difference / (scale * len(matched))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(torch.autograd.grad(value, chunks)[0], gradient, rtol=1e-6, atol=1e-12)


def test_where_no_chunk_starts_with_a_token_it_is_zero() -> None:
    chunks = torch.randn(3, WIDTH, requires_grad=True)
    embeddings = Embeddings(torch.randn(5, WIDTH), 1.0)
    value = distance(chunks, torch.full((3,), NONE), embeddings)
    assert value.item() == 0
    assert not torch.autograd.grad(value, chunks)[0].any()


def test_no_later_byte_is_used(source: str) -> None:
    """The token that is matched ends where the chunk starts, and the chunk depends on no byte behind its first."""
    teacher, (ids, seqs) = Teacher.of(source), packed()
    before = tokens_before(teacher.tokenizer, teacher.model.config.bos_id, TEXTS, BEGINS)
    assert set((before != NONE).nonzero()[:, 0].tolist()) == written_out(source).keys()
    for position in (before != NONE).nonzero()[:, 0].tolist():
        assert bytes(ids[:position].tolist()).endswith(teacher.vocabulary.bytes_of(int(before[position])))

    torch.manual_seed(0)
    student = HNetLM(student_config(teacher.model.config, d_model=WIDTH, encoder="t1", decoder="t1")).double()
    assert isinstance(student.network, HNet)
    assert isinstance(student.network.routing, RoutingModule)
    student.network.routing.threshold = -1.0  # each position starts a chunk
    x, seqs = student.embed(ids, seqs)
    x = x.detach().requires_grad_()
    chunks = student.from_vectors(x, seqs).routings[0].chunks
    assert chunks is not None
    assert torch.equal(chunks, student.encode(ids, seqs).chunks)
    for position in range(len(ids)):
        only = torch.where(torch.arange(len(ids)) == position, before, NONE)
        if only.max() > NONE:
            value = distance(chunks, only, Embeddings(teacher.model.embedding.weight, 1.0))
            (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
            assert gradient[position].any()
            assert not gradient[position + 1 :].any()


def test_models_that_it_is_not_for(source: str, tmp_path: Path) -> None:
    term, teacher = TeacherEmbeddings(source), HNetConfig.load(Path(source) / "config.json")
    term.check(student_config(teacher, d_model=WIDTH, encoder="t1", decoder="t1"))
    with pytest.raises(ConfigError, match="chunks 0 times"):
        term.check(teacher)
    with pytest.raises(ConfigError, match="main network's are 96 wide"):
        term.check(HNetConfig.load("tiny_1stage"))
    with pytest.raises(ConfigError, match="chunk once, not 2 times"):
        term.check(HNetConfig.load("tiny_2stage"))
    student = HNetLM(student_config(teacher, d_model=WIDTH, encoder="t1", decoder="t1")).eval()
    ids, seqs = packed()
    assert student(ids, seqs).routings[0].chunks is None

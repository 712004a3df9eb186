"""A student of a model of tokens: its architecture, what it is taught, and a run that teaches it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.distillation import student_config
from hnet_lm.distillation.lessons import NUM_KEPT, Teacher, kept_lesson
from hnet_lm.distillation.terms import divergence, token_starts
from hnet_lm.errors import ConfigError
from hnet_lm.losses import LOSS_TERMS
from hnet_lm.model import HNetLM
from hnet_lm.model.hnet import HNet
from hnet_lm.testing import check_loss_term
from hnet_lm.training.metrics import read_metrics
from token_models import TEXT, save_token_model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    save_token_model(folder)
    return folder


def slow_beginning(teacher: Teacher, text: bytes, spelled: list[int], *, goes_on: bool = False) -> float:
    """The probability of a beginning of a text, over covers whose tokens but the last are those it is spelled with.

    Where it `goes_on`, covers that end with the text count only if all of their tokens are those.
    """
    config, said, total, weight = teacher.model.config, teacher.vocabulary.bytes_of, 0.0, 1.0
    ids = [id for id in range(config.vocab_size) if said(id)]
    before = b""
    for i, is_next in enumerate([*spelled, None]):
        if before == text:
            return total + weight
        logits = teacher.model(torch.tensor([config.bos_id, *spelled[:i]])).logits[-1].double()
        allowed = torch.full_like(logits, -math.inf)
        allowed[[*ids, config.eos_id]] = 0
        probs = (logits + allowed).softmax(-1)
        rest = text[len(before) :]
        for id in ids:
            ends_here = said(id) == rest
            if said(id).startswith(rest) and not (ends_here and (goes_on or id == is_next)):
                total += weight * float(probs[id])
        if is_next is None or not text.startswith(before + said(is_next)):
            break
        before += said(is_next)
        weight *= float(probs[is_next])
    return total


def test_the_lesson_is_the_sum_over_covers(source: Path):
    teacher, text = Teacher.of(str(source)), b"the cat sat"
    lesson = teacher.lesson([text], [True])
    assert lesson.values.shape == (len(text) + 1, NUM_KEPT)
    spelled = teacher.vocabulary.encode(text)
    for n in range(len(text)):
        before = slow_beginning(teacher, text[:n], spelled, goes_on=True)
        for value, prob in list(zip(lesson.values[n].tolist(), lesson.probs[n].tolist(), strict=True))[:2]:
            if value < 256:
                expected = slow_beginning(teacher, text[:n] + bytes([value]), spelled) / before
                assert prob == pytest.approx(expected, rel=2e-3)
    sums = lesson.probs.float().sum(-1)
    assert ((sums > 0.3) & (sums <= 1.01)).all()


def test_lessons_are_kept_and_found_again(source: Path, tmp_path: Path):
    given = kept_lesson(str(source), str(tmp_path), [b"the cat", b"a dog"], [True, False])
    assert len(given.values) == 8 + 5
    (file,) = tmp_path.rglob("*.safetensors")
    again = kept_lesson(str(source), str(tmp_path), [b"the cat", b"a dog"], [True, False])
    assert torch.equal(given.probs, again.probs)
    file.write_bytes(file.read_bytes()[:40])  # damaged
    anew = kept_lesson(str(source), str(tmp_path), [b"the cat", b"a dog"], [True, False])
    assert torch.equal(given.values, anew.values)


def test_divergence_is_least_where_the_student_says_the_same(source: Path):
    lesson = Teacher.of(str(source)).lesson([b"the cat"], [True])
    logits = torch.full((8, 256), -20.0)
    values = torch.where(lesson.values == 256, 255, lesson.values).long()
    logits.scatter_(1, values, lesson.probs.float().clamp(min=1e-9).log())
    assert 0 <= divergence(logits, lesson, 255) < divergence(torch.zeros(8, 256), lesson, 255)


def test_terms_keep_the_laws(source: Path):
    check_loss_term(LOSS_TERMS.parse({"name": "token_boundaries", "teacher": str(source)}, "loss.terms"))
    lesson = Teacher.of(str(source)).lesson([b"the cat"], [True])
    logits = torch.randn(8, 256, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: divergence(x, lesson, 255), logits)


def test_token_starts(source: Path):
    tokenizer = Teacher.of(str(source)).tokenizer
    text = b"the cat sat"
    starts = np.flatnonzero(token_starts(tokenizer, [text, text], [True, False]).numpy()).tolist()
    whole = tokenizer.encode(text).starts.tolist()
    later = [start + 1 for start in tokenizer.encode(text[1:]).starts.tolist()]
    assert starts == [0, *(s + 1 for s in whole), *(len(text) + 1 + s for s in [0, *later])]


RUN = """
[run]
directory = "run"
num_steps = 12
precision = "float32"
[model]
config = "tiny_2stage"
[data]
tokens_per_batch = 256
max_length = 128
[[data.sources]]
path = "text.txt"
[loss]
ratio_loss_weight = 0.0
[optimizer]
lr = 0.003
[logging]
every = 1
"""


def test_a_run_teaches_a_student(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT * 20)
    Path("run.toml").write_text(RUN)
    outer = ["--encoder", "m1", "--decoder", "m1", "--freeze"]
    assert main(["distill", "run.toml", "--teacher", str(source), "--lessons", "lessons", *outer]) == 0
    records = [record for record in read_metrics(Path("run/metrics.jsonl")) if "stage0/token_boundaries" in record]
    for key in ("stage0/token_boundaries", "loss/teacher_bytes"):
        assert records[-1][key] < records[0][key]
    assert all(record["stage0/teacher_embeddings"] >= 0 for record in records)  # 0 where no chunk starts with a token
    assert list(Path("lessons").rglob("*.safetensors"))
    student = hnet_lm.load("run")
    assert isinstance(student.network, HNet)
    for name, weight in Teacher.of(str(source)).model.network.state_dict().items():
        assert torch.equal(student.innermost.get_parameter(name), weight)
    # and without the teacher
    later = ["--model.init-from", "run", "--run.directory", "later", "--run.num-steps", "1", "--data.seed", "1"]
    assert main(["train", "run.toml", *later]) == 0


def test_a_run_without_a_teacher_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "run.toml").write_text(RUN)
    assert main(["distill", str(tmp_path / "run.toml")]) == 2
    assert "name the --teacher, a saved model of tokens" in capsys.readouterr().err


def test_what_does_not_go_together(source: Path):
    teacher = HNetConfig.load(source / "config.json")
    config = student_config(teacher, d_model=32, encoder="m1", decoder="m1")
    assert config.stages[-1] == teacher.stages[-1]
    with pytest.raises(ConfigError, match="the teacher must be an isotropic model"):
        student_config(config, d_model=32)
    wider = student_config(teacher, d_model=32).to_dict() | {"d_intermediate": [0, 64]}
    with pytest.raises(ConfigError, match="main_network: the innermost stage"):
        HNetLM(HNetConfig.from_dict(wider)).load_main_network(Teacher.of(str(source)).model)

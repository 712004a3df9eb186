"""The paper's scores follow from its accuracies; perturbations do what they say; a model that knows shows it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

import pytest

from hnet_lm.errors import DataError
from hnet_lm.evaluation import (
    ByteScorer,
    Passage,
    PassageScore,
    Question,
    accuracy,
    perturbed_bits_per_byte,
    read_questions,
    robustness,
    robustness_score,
)
from hnet_lm.evaluation.perturbations import PERTURBATIONS, perturbed
from hnet_lm.evaluation.robustness import perturb
from hnet_lm.model import HNetLM

# "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling", arXiv 2507.07955, table 3: HellaSwag accuracy in
# percent under AntSpeak, Drop, RandomCase, Repeat, UpperCase, the printed score; first the clean accuracy, of table 2.
PAPER = {
    "Transformer L": (54.5, (31.1, 29.9, 27.1, 27.8, 38.9), 20.2),
    "LlamaByte W1024": (40.5, (30.4, 28.1, 29.3, 27.2, 38.5), 36.9),
    "LlamaByte Global": (41.5, (31.1, 28.1, 29.7, 27.3, 39.0), 36.6),
    "MambaByte": (42.0, (29.8, 27.9, 29.9, 27.1, 39.6), 34.5),
    "SpaceByte": (49.0, (30.7, 29.8, 33.5, 29.5, 47.8), 38.1),
    "SpaceByte++": (55.7, (31.0, 30.9, 35.8, 29.3, 54.0), 36.4),
    "H-Net (pool)": (54.7, (30.5, 31.2, 35.4, 29.6, 53.4), 37.3),
    "H-Net (space)": (55.9, (30.8, 31.2, 38.6, 29.4, 54.0), 38.2),
    "H-Net 1-stage": (55.5, (31.2, 31.1, 35.4, 29.9, 54.1), 37.2),
    "H-Net 2-stage": (57.4, (30.8, 32.1, 39.3, 30.4, 57.1), 39.0),
    "Transformer XL": (58.0, (31.6, 30.7, 28.0, 28.5, 43.0), 22.2),
    "SpaceByte++ XL": (60.1, (30.9, 32.1, 40.3, 30.6, 58.5), 38.5),
    "H-Net (space) XL": (61.5, (31.2, 33.2, 41.9, 31.8, 60.7), 40.5),
    "H-Net 1-stage XL": (59.5, (30.9, 32.7, 39.2, 31.2, 58.4), 39.5),
    "H-Net 2-stage XL": (62.2, (31.1, 34.7, 44.1, 33.0, 61.7), 42.8),
}
# The one printed score that does not follow from the printed accuracies, and what they give.
PRINTED_WRONGLY = {"H-Net 2-stage": 39.9}


@pytest.mark.parametrize("model_name", PAPER)
def test_the_papers_scores_follow_from_its_accuracies(model_name: str) -> None:
    clean, accuracies, printed = PAPER[model_name]
    score = robustness_score(fmean(accuracies) / 100, clean / 100, chance=0.25)
    if model_name in PRINTED_WRONGLY:
        assert abs(score - printed) > 0.5
        printed = PRINTED_WRONGLY[model_name]
    assert score == pytest.approx(printed, abs=0.5)


def test_a_model_at_chance_has_no_score() -> None:
    assert robustness_score(0.3, 0.25, 0.25) != robustness_score(0.3, 0.25, 0.25)  # NaN


TEXT = "The quick brown fox jumps over the lazy dog, 3 times; die Straße, 天地. " * 40


def test_perturbations_are_what_they_say() -> None:
    assert perturbed("AntSpeak", "Ant, so.", 0) == "A N T ,   S O . "
    assert perturbed("UpperCase", "Straße 天", 0) == "STRASSE 天"
    dropped = perturbed("Drop", TEXT, 0)
    assert 0.87 < len(dropped) / len(TEXT) < 0.93
    rest = iter(TEXT)
    assert all(character in rest for character in dropped)  # a subsequence
    mixed = perturbed("RandomCase", "Abcdefghij" * 100, 0)
    assert mixed.lower() == "abcdefghij" * 100
    assert 0.45 < fmean(character.isupper() for character in mixed) < 0.55
    runs = perturbed("Repeat", "ab" * 2000, 0).replace("ba", "b a").split()
    lengths = [run.count(letter) for run in runs for letter in "ab"]
    assert set(lengths) == {1, 2, 3, 4, 5}
    assert 0.17 < fmean(n > 1 for n in lengths) < 0.23


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbations_are_seeded_and_take_anything(name: str) -> None:
    assert perturbed(name, TEXT, 1, 2) == perturbed(name, TEXT, 1, 2)
    if name not in ("AntSpeak", "UpperCase"):
        assert perturbed(name, TEXT, 1, 2) != perturbed(name, TEXT, 1, 3)
    assert perturbed(name, "", 0) == ""
    assert all(perturbed(name, "x", seed) for seed in range(50))


def test_targets() -> None:
    question = Question("a prompt", (" yes", " no"), 1)
    both = perturb(question, "Repeat", "both", 0, 7)
    prompt = perturb(question, "Repeat", "prompt", 0, 7)
    completion = perturb(question, "Repeat", "completion", 0, 7)
    assert prompt == Question(both.prompt, question.choices, 1)
    assert completion == Question(question.prompt, both.choices, 1)
    with pytest.raises(DataError, match="unknown target 'answer'"):
        robustness(LowerCaseReader(), [question], targets=["answer"])


class LowerCaseReader:
    """Knows that the right completion is the one whose first letter is that of the prompt, as long as both are lower
    case; finds a longer text less likely."""

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        for data, prompt in passages:
            knows = data.strip()[:1].islower() and data.strip()[:1] == prompt[:1]
            yield PassageScore(-len(data) * (1.0 if knows else 2.0), len(data), 0.0, False)


QUESTIONS = [
    Question("apple", (" pear", " apricot, which is long", " fig", " cherry"), 1),
    Question("fig", (" fig", " pear", " nut", " cherry"), 0),
]


def test_a_model_that_knows_lower_case_only() -> None:
    found = robustness(LowerCaseReader(), QUESTIONS)
    assert found.clean.by_byte == 1.0
    assert found.clean.by_sum == 0.5  # the long answer loses by its length alone
    assert found.clean.chance == 0.25
    # Where all choices tie, the first is taken, which is right for one question of two.
    assert found.perturbed["UpperCase", "prompt"].by_byte == 0.5
    assert found.average("UpperCase") == 0.5
    assert found.score("UpperCase") == pytest.approx(100 / 3)
    report = json.loads(json.dumps(found.to_json()))
    assert report["perturbations"]["UpperCase"]["both"] == 0.5
    every = [report["perturbations"][name][t] for name in PERTURBATIONS for t in ("prompt", "completion", "both")]
    assert report["average"] == pytest.approx(fmean(every))
    assert report["score"] == pytest.approx(100 * (fmean(every) - 0.25) / 0.75)


def test_accuracy_of_a_model_equals_its_scores(model: HNetLM) -> None:
    scorer = ByteScorer(model)
    right = 0
    for question in QUESTIONS:
        scores = [next(scorer.score([Passage(c.encode(), question.prompt.encode())])) for c in question.choices]
        per_byte = [score.logprob / score.num_bytes for score in scores]
        right += per_byte.index(max(per_byte)) == question.answer
    assert accuracy(scorer, QUESTIONS).by_byte == right / 2


def test_bits_per_byte_of_perturbed_text(model: HNetLM) -> None:
    texts = ["Some text, ", "and more of it."]
    found = perturbed_bits_per_byte(ByteScorer(model), texts, seed=3)
    assert set(found) == {"clean", *PERTURBATIONS}
    assert found["clean"].bits_per_byte == found["clean"].bits_per_clean_byte
    assert found["AntSpeak"].bits_per_clean_byte == pytest.approx(2 * found["AntSpeak"].bits_per_byte)


def test_files_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    lines = [{"prompt": q.prompt, "choices": q.choices, "answer": q.answer, "id": 3} for q in QUESTIONS]
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    assert read_questions(path) == QUESTIONS
    for line, complaint in [
        ('{"prompt": "a", "choices": ["b", "c"], "answer": 2}', "line 1: answer 2 is not one of the 2 choices"),
        ('{"prompt": "a", "choices": ["b"], "answer": 0}', "line 1: not a question"),
        ('{"prompt": "a", "choices": "bc", "answer": 0}', "line 1: not a question"),
        ("{", "line 1: not JSON"),
        ("", "has no questions"),
    ]:
        path.write_text(line)
        with pytest.raises(DataError, match=complaint):
            read_questions(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "missing.jsonl")


def test_the_seed_draws_the_perturbed_text(model: HNetLM) -> None:
    texts = ["a text of some length, so that its draws differ", "and another one of them"]
    first, again, other = (perturbed_bits_per_byte(ByteScorer(model), texts, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first["Drop"] != other["Drop"]
    assert first["UpperCase"] == other["UpperCase"]


def test_prompt_and_choices_are_drawn_apart() -> None:
    text = "the same text in the prompt and in every choice of it"
    question = perturb(Question(text, (text, text), 0), "Drop", "both", 0, 0)
    assert len({question.prompt, *question.choices}) == 3


def test_half_a_surrogate_pair_in_a_question_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n' * 2)
    with path.open("a") as file:
        file.write('{"prompt": "a", "choices": ["b", "c\\ud800"], "answer": 0}\n')
    with pytest.raises(DataError, match=r"q\.jsonl, line 3: has half of a surrogate pair \(U\+D800\)"):
        read_questions(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_questions(path)

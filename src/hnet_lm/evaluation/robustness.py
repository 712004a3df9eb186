"""Robustness: how a model's accuracy and bits per byte change when the text is perturbed.

    score = 100 (perturbed - chance) / max(clean - chance, 0)

is the paper's (appendix D.1): the share of the accuracy above chance that remains. It is a ratio, so a model that
knows little can look robust; the plain accuracies are reported as well. A perturbation is applied to the prompt,
to the completions, or to both; the averages run over all of these.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hnet_lm.errors import DataError
from hnet_lm.evaluation.bits_per_byte import bits_per_byte
from hnet_lm.evaluation.multiple_choice import Accuracy, Question, accuracy
from hnet_lm.evaluation.perturbations import PERTURBATIONS, perturbed
from hnet_lm.evaluation.scorer import Scorer

TARGETS = ("prompt", "completion", "both")


def robustness_score(perturbed: float, clean: float, chance: float) -> float:
    """The paper's score of accuracies between 0 and 1; NaN for a model that is no better than chance on clean text."""
    return 100 * (perturbed - chance) / (clean - chance) if clean > chance else math.nan


@dataclass(frozen=True)
class Robustness:
    """Accuracies on clean questions, and by perturbation and target."""

    clean: Accuracy
    perturbed: Mapping[tuple[str, str], Accuracy]

    def average(self, perturbation: str | None = None) -> float:
        """The plain mean of the byte-normalised accuracies, of one perturbation or of all."""
        chosen = [found for (name, _), found in self.perturbed.items() if perturbation in (None, name)]
        return fmean(found.by_byte for found in chosen)

    def score(self, perturbation: str | None = None) -> float:
        """The paper's score of that mean."""
        return robustness_score(self.average(perturbation), self.clean.by_byte, self.clean.chance)

    def to_json(self) -> dict[str, Any]:
        names = list(dict.fromkeys(name for name, _ in self.perturbed))
        return {
            "num_questions": self.clean.num_questions,
            "chance": self.clean.chance,
            "clean": self.clean.by_byte,
            "average": self.average(),
            "score": _number(self.score()),
            "perturbations": {
                name: {
                    "average": self.average(name),
                    "score": _number(self.score(name)),
                    **{target: found.by_byte for (of, target), found in self.perturbed.items() if of == name},
                }
                for name in names
            },
        }


def robustness(
    scorer: Scorer, questions: Sequence[Question], *, targets: Sequence[str] = TARGETS, seed: int = 0
) -> Robustness:
    """Ask all questions clean and under every perturbation of every target.

    The seed fixes the draws for each question; the targets "prompt" and "both" have the same prompt.
    """
    for target in targets:
        if target not in TARGETS:
            raise DataError(f"unknown target {target!r}; a perturbation is applied to one of {', '.join(TARGETS)}")
    found = {
        (name, target): accuracy(scorer, [perturb(q, name, target, seed, i) for i, q in enumerate(questions)])
        for name in PERTURBATIONS
        for target in targets
    }
    return Robustness(accuracy(scorer, questions), found)


def perturb(question: Question, name: str, target: str, seed: int, number: int) -> Question:
    """The question with this number in its file, with the target under the named perturbation."""
    prompt, choices = question.prompt, question.choices
    if target != "completion":
        prompt = perturbed(name, prompt, seed, number, 0)
    if target != "prompt":
        choices = tuple(perturbed(name, choice, seed, number, 1 + i) for i, choice in enumerate(choices))
    return Question(prompt, choices, question.answer)


@dataclass(frozen=True)
class PerturbedText:
    """Bits per byte of the text as it was read, and per byte of the clean text."""

    bits_per_byte: float
    bits_per_clean_byte: float


def perturbed_bits_per_byte(scorer: Scorer, documents: Iterable[str], *, seed: int = 0) -> dict[str, PerturbedText]:
    """Bits per byte of the documents, "clean" and under every perturbation.

    Perturbations change the length of a text, so bits per perturbed byte alone say little (the spaces of AntSpeak cost
    nothing). Bits per clean byte are those of the whole perturbed text over the number of clean bytes.
    """
    texts = list(documents)
    versions = {"clean": texts}
    versions |= {name: [perturbed(name, text, seed, i) for i, text in enumerate(texts)] for name in PERTURBATIONS}
    num_clean_bytes = sum(len(text.encode("utf-8")) for text in texts)
    found = {}
    for name, version in versions.items():
        result = bits_per_byte(scorer, {name: (text.encode("utf-8") for text in version)})
        found[name] = PerturbedText(result.value, result.value * result.num_bytes / num_clean_bytes)
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

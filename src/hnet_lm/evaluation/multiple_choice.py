"""Multiple-choice questions: the choice with the highest log-probability, per byte or in total.

A file of questions is JSONL, plain or compressed, with one question per line:

    {"prompt": "The sky is", "choices": [" blue.", " a fish."], "answer": 0}

Prompt and choice are concatenated, so one of them must contain the space between them; `answer` counts from 0. Other
keys are ignored.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hnet_lm.data.error_report import raise_error
from hnet_lm.data.parts import Report
from hnet_lm.errors import DataError
from hnet_lm.evaluation.scorer import Passage, Scorer
from hnet_lm.inputs import opened


@dataclass(frozen=True)
class Question:
    """One question; `answer` is the index of the right choice."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Accuracy:
    """Shares of questions answered rightly, 0 to 1."""

    by_byte: float
    """With the log-probability of each choice divided by its number of bytes."""
    by_sum: float
    """With the total log-probability of each choice."""
    chance: float
    """Expected accuracy of guessing: the mean of 1 / number of choices."""
    num_questions: int


def read_questions(path: str | Path, report: Report = raise_error) -> list[Question]:
    """All questions of a file; invalid lines are reported with their number. Raises DataError if there are none."""
    questions = []
    with opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                questions.append(_question(line, f"{path}, line {number}"))
            except DataError as error:
                report(error)
    if not questions:
        raise DataError(f"{path}: has no questions")
    return questions


def accuracy(scorer: Scorer, questions: Sequence[Question]) -> Accuracy:
    """Ask the model all questions."""
    if not questions:
        raise DataError("no questions to ask")
    scores = scorer.score(_passages(questions))
    right_by_byte = right_by_sum = 0
    for question in questions:
        of_choices = islice(scores, len(question.choices))
        logprobs, num_bytes = np.array([(score.logprob, max(score.num_bytes, 1)) for score in of_choices]).T
        right_by_byte += int(np.argmax(logprobs / num_bytes)) == question.answer
        right_by_sum += int(np.argmax(logprobs)) == question.answer
    num = len(questions)
    chance = sum(1 / len(question.choices) for question in questions) / num
    return Accuracy(right_by_byte / num, right_by_sum / num, chance, num)


def _passages(questions: Iterable[Question]) -> Iterator[Passage]:
    for question in questions:
        prompt = question.prompt.encode("utf-8")
        yield from (Passage(choice.encode("utf-8"), prompt) for choice in question.choices)


def _question(line: bytes, where: str) -> Question:
    try:
        match json.loads(line):
            case {"prompt": str(prompt), "choices": [*choices], "answer": int(answer)} if (
                all(isinstance(choice, str) for choice in choices) and len(choices) > 1
            ):
                for text in (prompt, *choices):
                    _check_encodable(text, where)
                if not 0 <= answer < len(choices):
                    raise DataError(f"{where}: answer {answer} is not one of the {len(choices)} choices (from 0)")
                return Question(prompt, tuple(choices), answer)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    raise DataError(
        f'{where}: not a question; expected {{"prompt": text, "choices": [two or more texts], "answer": number}}'
    )


def _check_encodable(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise DataError(f"{where}: has half of a surrogate pair ({half}), which UTF-8 cannot encode") from None

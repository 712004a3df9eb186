"""Five perturbations of a text that keep its meaning for a reader, as in the paper (after BLT, section 6.1).

Each is a function of a text and a random generator. Shares are independent probabilities per character.
"""

from collections.abc import Callable

import numpy as np

DROP_SHARE = 0.1
REPEAT_SHARE = 0.2
MAX_REPEATS = 4

Perturbation = Callable[[str, np.random.Generator], str]


def ant_speak(text: str, random: np.random.Generator) -> str:
    """Upper case, with a space after every character."""
    return "".join(f"{character} " for character in text.upper())


def drop(text: str, random: np.random.Generator) -> str:
    """Drops a tenth of the characters, but not the last remaining one."""
    stays = random.random(len(text)) >= DROP_SHARE
    if text and not stays.any():
        stays[random.integers(len(text))] = True
    return "".join(character for character, kept in zip(text, stays, strict=True) if kept)


def random_case(text: str, random: np.random.Generator) -> str:
    """Each character in upper or lower case with equal probability."""
    is_upper = random.random(len(text)) < 0.5
    return "".join(c.upper() if upper else c.lower() for c, upper in zip(text, is_upper, strict=True))


def repeat(text: str, random: np.random.Generator) -> str:
    """Repeats a fifth of the characters, 1 to 4 more times."""
    is_repeated = random.random(len(text)) < REPEAT_SHARE
    times = 1 + is_repeated * random.integers(1, MAX_REPEATS, size=len(text), endpoint=True)
    return "".join(character * int(n) for character, n in zip(text, times, strict=True))


def upper_case(text: str, random: np.random.Generator) -> str:
    """All in upper case."""
    return text.upper()


PERTURBATIONS: dict[str, Perturbation] = {
    "AntSpeak": ant_speak,
    "Drop": drop,
    "RandomCase": random_case,
    "Repeat": repeat,
    "UpperCase": upper_case,
}


def perturbed(name: str, text: str, *key: int) -> str:
    """The text under the named perturbation; the numbers of the key seed it, whatever else is drawn."""
    index = list(PERTURBATIONS).index(name)
    return PERTURBATIONS[name](text, np.random.default_rng([index, *key]))

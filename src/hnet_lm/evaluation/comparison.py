"""Several models side by side: cost, chunks, bits per byte, robustness and speed."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hnet_lm.evaluation.bits_per_byte import BitsPerByte, bits_per_byte
from hnet_lm.evaluation.boundaries import BoundaryStatistics
from hnet_lm.evaluation.byte_scorer import ByteScorer
from hnet_lm.evaluation.multiple_choice import Question
from hnet_lm.evaluation.robustness import Robustness, perturbed_bits_per_byte, robustness
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.model.sizes import parameters_by_part

DOMAIN = "text"
HEADINGS = ("model", "params", "MFLOPs/B", "B/chunk", "bits/B", "95 %", "perturbed", "score", "kB/s")  # B: byte


@dataclass(frozen=True)
class Compared:
    """What was measured for one model; None if it was not."""

    name: str
    num_parameters: int
    flops_per_byte: float
    """Of a forward pass."""
    bytes_per_unit: tuple[float, ...]
    """Bytes per chunk of every stage, outermost first; for a model of tokens, bytes per token."""
    result: BitsPerByte
    perturbed_bits: float | None = None
    """Bits for a clean byte, the mean over the five perturbations of the text."""
    robustness: Robustness | None = None
    bytes_per_second: float | None = None
    """Median of the records of its training."""

    def row(self) -> list[str]:
        """The figures as text, in the order of `HEADINGS`."""
        interval = self.result.interval()
        return [
            self.name,
            f"{plain_number(self.num_parameters / 1e6, 3)} M",
            plain_number(self.flops_per_byte / 1e6, 4),
            ", ".join(f"{length:.2f}" for length in self.bytes_per_unit),
            f"{self.result.value:.4f}",
            "" if interval is None else f"{interval.low:.3f}-{interval.high:.3f}",
            "" if self.perturbed_bits is None else f"{self.perturbed_bits:.3f}",
            "" if self.robustness is None else f"{self.robustness.score():.1f}",
            "" if self.bytes_per_second is None else f"{self.bytes_per_second / 1e3:.1f}",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.num_parameters,
            "forward_flops_per_byte": self.flops_per_byte,
            "bytes_per_chunk": list(self.bytes_per_unit),
            **self.result.to_json(),
            "perturbed_bits_per_clean_byte": self.perturbed_bits,
            "robustness": None if self.robustness is None else self.robustness.to_json(),
            "bytes_per_second": self.bytes_per_second,
        }


def plain_number(value: float, digits: int) -> str:
    """A number above 0 with so many significant digits, never with an exponent."""
    return f"{value:,.{max(digits - 1 - math.floor(math.log10(value)), 0)}f}"


def compared(
    name: str,
    scorer: ByteScorer,
    texts: Sequence[bytes],
    sequence_length: int,
    *,
    records: Iterable[Mapping[str, Any]] = (),
    perturb: bool = False,
    questions: Sequence[Question] = (),
) -> Compared:
    """Measure a model on the texts. The scorer must report unit starts; `records` are those of its training.

    FLOPs are counted for `sequence_length` bytes. Raises DataError if the texts are empty.
    """
    model, chunks = scorer.model, BoundaryStatistics()
    result = bits_per_byte(scorer, {DOMAIN: texts}, chunks.add)
    lengths = tuple(stage.bytes_per_chunk for stage in chunks.domains[DOMAIN])
    per_chunk, per_token = ((), lengths[0]) if model.config.reads_tokens else (lengths, 1.0)
    perturbed = None
    if perturb:
        found = perturbed_bits_per_byte(scorer, [text.decode("utf-8", "replace") for text in texts])
        perturbed = statistics.fmean(f.bits_per_clean_byte for kind, f in found.items() if kind != "clean")
    speeds = [record["bytes_per_second"] for record in records if "bytes_per_second" in record]
    return Compared(
        name,
        sum(parameters_by_part(model).values()),
        total_flops_per_byte(model.config, sequence_length, per_chunk, per_token),
        lengths,
        result,
        perturbed,
        robustness(scorer, questions) if questions else None,
        statistics.median(speeds) if speeds else None,
    )


def table(rows: Sequence[Compared]) -> list[list[str]]:
    """Headings and rows, the best model first, without empty columns."""
    cells = [list(HEADINGS), *(found.row() for found in sorted(rows, key=lambda found: found.result.value))]
    kept = [i for i in range(len(HEADINGS)) if any(row[i] for row in cells[1:])]
    return [[row[i] for i in kept] for row in cells]


def to_markdown(rows: Sequence[Compared]) -> str:
    """The table in Markdown."""
    headings, *body = table(rows)
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

"""Writes a VCF with the scores of its variants in INFO, line by line.

Everything else in the file is kept: header, ID, other keys of INFO, genotypes, records without a score. An allele that
could not be scored has the value `.`. Only lines whose scores are still missing are held in memory.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hnet_lm.errors import DataError
from hnet_lm.evaluation.dna.variants import VariantScore

LOG_RATIO, LOGPROB = "HNET_LLR", "HNET_LOGPROB"
_HEADER = {
    LOG_RATIO: "Number=A,Type=Float,Description="
    '"log p(alternative) - log p(reference) of the stretch around the variant, in nats; below 0 the model expects the '
    'reference"',
    LOGPROB: "Number=R,Type=Float,Description="
    '"Log-probability of the stretch around the variant with each allele, in nats"',
}
_ID, _ALTERNATIVES, _INFO, _NUM_FIXED = 2, 4, 7, 8
_FIXED = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
_MISSING = "."


@dataclass
class _Record:
    """A line whose variants are being scored; `scores` by allele."""

    number: int
    line: str
    scores: dict[int, VariantScore]


class ScoredVcf:
    """Pass `on_line` to `VariantFile`, and `add` every score in order; `finish` writes what is left."""

    def __init__(self, path: str, write: Callable[[str], object]) -> None:
        """`write` is given whole lines; bytes of the input that are not UTF-8 are surrogates in them."""
        self._path = path
        self._write = write
        self._records: deque[_Record] = deque()
        self._has_version = self._has_columns = False

    def on_line(self, number: int, line: str) -> None:
        """Raises DataError for a file that is not VCF."""
        if self._has_columns:
            if line.strip():
                self._records.append(_Record(number, line, {}))
        elif line.startswith("##"):
            self._require_version(number, line)
            if not any(line.startswith(f"##INFO=<ID={key},") for key in _HEADER):  # scored before: those are replaced
                self._write(f"{line}\n")
        elif line.strip():
            self._require_version(number, line)
            if line.split("\t")[:_NUM_FIXED] != _FIXED:
                raise DataError(
                    f"{self._path}, line {number}: not the header of a VCF, {' '.join(_FIXED)} with tabs between them, "
                    "so the scores cannot be put into INFO; leave out --output for a table"
                )
            self._has_columns = True
            self._write("".join(f"##INFO=<ID={key},{text}>\n" for key, text in _HEADER.items()))
            self._write(f"{line}\n")

    def add(self, score: VariantScore) -> None:
        """The score of a variant of a line that was read."""
        while self._records[0].number < score.variant.line:
            self._write(_with_scores(self._records.popleft()))
        self._records[0].scores[score.variant.allele] = score

    def finish(self) -> None:
        """Write the remaining lines."""
        while self._records:
            self._write(_with_scores(self._records.popleft()))

    def _require_version(self, number: int, line: str) -> None:
        if not self._has_version and not line.startswith("##fileformat=VCF"):
            raise DataError(f"{self._path}, line {number}: a VCF begins with ##fileformat=VCFv4.2 or another version")
        self._has_version = True


def _with_scores(record: _Record) -> str:
    fields = record.line.split("\t", _NUM_FIXED)
    if not record.scores or len(fields) < _NUM_FIXED:
        return f"{record.line}\n"
    num_alleles = fields[_ALTERNATIVES].count(",") + 1
    scores = [record.scores.get(allele) for allele in range(num_alleles)]
    ratios = [_MISSING if score is None else _number(score.log_ratio) for score in scores]
    logprobs = [_MISSING if score is None else _number(score.alternative_logprob) for score in scores]
    reference = next(iter(record.scores.values())).reference_logprob
    kept = [
        item
        for item in fields[_INFO].split(";")
        if item not in ("", _MISSING) and item.partition("=")[0] not in _HEADER
    ]
    added = [f"{LOG_RATIO}={','.join(ratios)}", f"{LOGPROB}={','.join([_number(reference), *logprobs])}"]
    fields[_INFO] = ";".join([*kept, *added])
    return "\t".join(fields) + "\n"


def _number(value: float) -> str:
    return f"{value:.6f}"

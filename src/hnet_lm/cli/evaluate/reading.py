"""What the measures of a model have in common on the command line: the model, how it reads, and documents."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from hnet_lm.checks import require_number
from hnet_lm.cli.loading import PrecisionOption, load_model, tokenizer_of
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.data import DataConfig
from hnet_lm.data import documents as read_documents
from hnet_lm.data.validation import NO_RESERVED_BYTES
from hnet_lm.errors import UserError
from hnet_lm.evaluation import ByteScorer, CarriedState, SlidingWindow, TokenScorer
from hnet_lm.training.progress import Meter

Model = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]


@dataclass(frozen=True)
class Reading:
    """How the model reads."""

    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    precision: PrecisionOption = None
    window: int | None = None
    """Read in windows of so many bytes (by a model of tokens, of so many tokens), each from a fresh state; without it
    every byte sees all before it."""
    stride: int | None = None
    """How far the window moves; half of it by default."""
    hold_out: float | None = None
    """Only the documents that a training with this validation.hold_out on the same sources leaves out."""
    call_bytes: int = 16_384
    """Bytes of one call of the model, of all documents together."""
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)

    def scorer(self, model: str, *, unit_starts: bool = False, byte_logprobs: bool = False) -> ByteScorer:
        if self.window is None and self.stride is not None:
            raise UserError("--stride goes with --window")
        context = CarriedState()
        if self.window is not None:
            stride = max(self.window // 2, 1) if self.stride is None else self.stride
            context = SlidingWindow(self.window, stride)
        loaded = load_model(model, self.device, self.precision)
        pairs = tokenizer_of(model, loaded)
        unit = "bytes" if pairs is None else "tokens"
        options: dict[str, Any] = {
            "call_bytes": self.call_bytes,
            "unit_starts": unit_starts,
            "byte_logprobs": byte_logprobs,
            "on_positions": Meter(f"{unit} scored", say).advance,
        }
        if pairs is not None:
            return TokenScorer(loaded, pairs, context, **options)
        return ByteScorer(loaded, context, **options)


def documents(
    path: str,
    max_bytes: int | None,
    reading: Reading = Reading(),
    *,
    vocab_size: int = NO_RESERVED_BYTES,
    default_format: str = "auto",
) -> Iterator[bytes]:
    """The documents of a source, of a sample its held-out ones; damaged ones are counted on standard error.

    Documents that hold a byte which a model of `vocab_size` reads as BOS or EOS are damaged for it. `default_format`
    is that of a file whose suffix tells none.
    """
    source = reading.sources.source(path, "validation", default_format=default_format)
    report = reading.sources.report()
    num_bytes = 0
    hold_out = reading.hold_out
    if hold_out is not None:
        require_number("--hold-out", hold_out, above=0, below=1, error=UserError)
    for document in read_documents(DataConfig((source,)), vocab_size=vocab_size, report=report, hold_out=hold_out):
        yield document.data
        num_bytes += len(document.data)
        if max_bytes is not None and num_bytes >= max_bytes:
            break
    if report.num_skipped:
        say(f"{path}: damaged files and records left out: {report.num_skipped:,}")

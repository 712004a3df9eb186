"""`hnet-lm calibrate`: sets the thresholds of a saved model for chunks of a given length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.checkpoint import save
from hnet_lm.cli.evaluate.reading import Reading, documents
from hnet_lm.cli.loading import load_model
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.errors import UserError
from hnet_lm.evaluation.calibration import calibrated
from hnet_lm.training.progress import waiting


@dataclass(frozen=True)
class Command:
    """Save a model with other routing thresholds, for chunks of the wanted length. No weight changes."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    files: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILE ...")]
    """Text that the model was not trained on, of any format, globs, or sample:english (its held-out part)."""
    target_ratios: tuple[float, ...]
    """Positions per chunk of every stage, outermost first; for the outermost stage, bytes per chunk."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="DIRECTORY")]
    """Where to save; an existing saved model is replaced."""
    max_bytes: int = 200_000
    """Bytes to read of each file."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)

    def run(self) -> None:
        if not self.files:
            raise UserError("calibrate needs a file of documents, or sample:english")
        require_at_least(1, max_bytes=self.max_bytes)
        model = load_model(self.model, self.device)
        if model.config.reads_tokens:
            raise UserError(f"{self.model}: the model reads tokens, and has no boundaries to calibrate")
        reading, vocab_size = Reading(sources=self.sources), model.config.vocab_size
        texts: list[bytes] = []
        for file in self.files:
            found = documents(file, self.max_bytes, reading, vocab_size=vocab_size)
            texts += _beginning(found, self.max_bytes)
        with waiting("cutting the text", say):
            model, stages = calibrated(model, texts, self.target_ratios)
        save(model, self.output)
        rows = []
        for stage, found in enumerate(stages):
            before = (rounded(found.threshold_before, 4), rounded(found.length_before, 3))
            rows.append([str(stage), *before, rounded(found.threshold, 4), rounded(found.length, 3)])
        print_table(("stage", "threshold", "positions/chunk", "new threshold", "positions/chunk now"), rows)
        print(f"{self.output}: the calibrated model")


def _beginning(texts: Iterable[bytes], room: int) -> Iterator[bytes]:
    """The first bytes of the texts; the text that crosses the limit is cut."""
    for text in texts:
        yield text[:room]
        room -= len(text)
        if room <= 0:
            return

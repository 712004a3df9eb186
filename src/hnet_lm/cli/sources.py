"""How commands read files of documents: the options that a run file has under `[[data.sources]]`, as arguments."""

import sys
from dataclasses import dataclass, replace

from hnet_lm.data import FastaConfig, SourceConfig
from hnet_lm.data.config import OnError
from hnet_lm.data.error_report import ErrorReport
from hnet_lm.data.formats import HUB_PREFIX, format_of
from hnet_lm.data.samples import SAMPLE_PREFIX


@dataclass(frozen=True)
class SourceOptions:
    """How files are read."""

    format: str = "auto"
    """Format of the files: text, jsonl, parquet, fasta, bytes, or MODULE:CLASS of your own; auto goes by the suffix,
    and a file of an unknown suffix is its bytes."""
    field: str = "text"
    """The JSONL field or the parquet column that holds the text."""
    separator: str = ""
    """Cut text files into documents at this string; without it a file is one document."""
    on_error: OnError | None = None
    """raise stops at a damaged file or record, skip counts it and continues. By default variants of DNA are skipped,
    and all else is raised."""

    def source(
        self, path: str, split: str, *, default_format: str = "auto", fasta: FastaConfig | None = None
    ) -> SourceConfig:
        """The source of a path; `default_format` is that of a file whose suffix tells none."""
        source = SourceConfig(
            path, self.format, field=self.field, separator=self.separator, split=split, fasta=fasta or FastaConfig()
        )
        if path.startswith((SAMPLE_PREFIX, HUB_PREFIX)):
            return source
        return replace(source, format=format_of(path, source, default_format))

    def report(self, default: OnError = "raise") -> ErrorReport:
        """The report of damaged files and records, which prints to standard error."""
        return ErrorReport(self.on_error or default, say)


def say(line: str) -> None:
    """Print a message beside the results."""
    print(f"hnet-lm: {line}", file=sys.stderr)

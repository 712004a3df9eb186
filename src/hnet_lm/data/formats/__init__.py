"""One reader per format; which one a file gets."""

from hnet_lm.data.config import Format, SourceConfig
from hnet_lm.data.formats.fasta import read_fasta
from hnet_lm.data.formats.jsonl import read_jsonl
from hnet_lm.data.formats.plain import read_separated, read_whole
from hnet_lm.data.parts import Reader
from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs import content_suffix

HUB_PREFIX = "hf:"
FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".fa": "fasta",
    ".fasta": "fasta",
    ".fna": "fasta",
    ".fas": "fasta",
    ".ffn": "fasta",
}
CONTAINERS = (".tar", ".tgz", ".zip", ".7z", ".rar", ".arrow", ".feather", ".lz4", ".br", ".sz", ".z")
"""Of these a user wants what is inside, and nothing here takes it out."""


def format_of(path: str, config: SourceConfig, fallback: Format = "bytes") -> Format:
    """The source's `format`, else the one of the file's suffix, else `fallback`. Raises DataError for an archive."""
    if config.format != "auto":
        return config.format
    suffix = content_suffix(path)
    if suffix in CONTAINERS:
        raise DataError(f"{path}: {suffix} files are not read; unpack it first, or read its bytes with format 'bytes'")
    return FORMAT_OF_SUFFIX.get(suffix, fallback)


def reader_for(path: str, config: SourceConfig) -> Reader:
    """The reader of a file. Raises DataError where a package for it is missing."""
    if path.startswith(HUB_PREFIX):
        return import_leaf("hnet_lm.data.formats.hub", "hf", f"reading {path}", DataError).read_hub
    match format_of(path, config):
        case "jsonl":
            return read_jsonl
        case "fasta":
            return read_fasta
        case "parquet":
            return import_leaf("hnet_lm.data.formats.parquet", "train", f"reading {path}", DataError).read_parquet
        case "bytes" if config.format == "bytes":
            return read_whole
    return read_separated if config.separator else read_whole

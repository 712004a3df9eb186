"""Chooses the format of a file."""

from hnet_lm.data.config import AUTO, DATA_FORMATS, SourceConfig
from hnet_lm.data.formats.format import DataFormat, Hub
from hnet_lm.data.parts import Reader
from hnet_lm.errors import DataError
from hnet_lm.inputs import content_suffix

HUB_PREFIX = "hf:"
FORMAT_OF_SUFFIX: dict[str, str] = {
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
"""Archives and the like: a user wants their contents, which nothing here extracts."""


def format_of(path: str, config: SourceConfig, fallback: str = "bytes") -> str:
    """The source's `format`, or that of the file's suffix, or `fallback`. Raises DataError for an archive."""
    if config.format != AUTO:
        return config.format
    suffix = content_suffix(path)
    if suffix in CONTAINERS:
        raise DataError(f"{path}: {suffix} files are not read; unpack it first, or read its bytes with format 'bytes'")
    return FORMAT_OF_SUFFIX.get(suffix, fallback)


def reader_for(path: str, config: SourceConfig) -> Reader:
    """The reader of a file. Raises DataError if a package for it is missing."""
    return _format(path, config).read


def _format(path: str, config: SourceConfig) -> DataFormat:
    if path.startswith(HUB_PREFIX):
        return Hub()
    if config.format == AUTO:  # files without a known suffix may still have a separator
        return DATA_FORMATS.parse({"name": format_of(path, config, "text")}, path)
    return DATA_FORMATS.parse({"name": config.format, **config.options}, path)

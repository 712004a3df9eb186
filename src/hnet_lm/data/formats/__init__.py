"""One reader a format; which one a file gets."""

from hnet_lm.data.config import SourceConfig
from hnet_lm.data.files import content_suffix, load_leaf
from hnet_lm.data.formats.fasta import read_fasta
from hnet_lm.data.formats.jsonl import read_jsonl
from hnet_lm.data.formats.plain import read_separated, read_whole
from hnet_lm.data.parts import Reader
from hnet_lm.errors import DataError

HUB_PREFIX = "hf:"
FORMAT_OF_SUFFIX = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".fa": "fasta",
    ".fasta": "fasta",
    ".fna": "fasta",
    ".bin": "bytes",
}


def reader_for(path: str, config: SourceConfig) -> Reader:
    """The reader of a file, by the source's `format` or the file's suffix. Raises DataError where neither says."""
    if path.startswith(HUB_PREFIX):
        return load_leaf("formats.hub", "datasets", "hf", f"reading {path}").read_hub
    name = config.format if config.format != "auto" else FORMAT_OF_SUFFIX.get(content_suffix(path))
    match name:
        case "text":
            return read_separated if config.separator else read_whole
        case "bytes":
            return read_whole
        case "jsonl":
            return read_jsonl
        case "fasta":
            return read_fasta
        case "parquet":
            return load_leaf("formats.parquet", "pyarrow", "train", f"reading {path}").read_parquet
    known = ", ".join(FORMAT_OF_SUFFIX)
    raise DataError(f"{path}: the suffix does not tell the format; set `format` of this source (known: {known})")

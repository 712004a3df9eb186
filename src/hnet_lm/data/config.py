"""The data of a run: the `[data]` table of a run file, as frozen dataclasses that are checked on construction.

A `DataConfig` names one or more sources with their weights and says how documents become batches. Everything that
determines *which* batch comes at which step (sources, sizes, `seed`, `streams`) is part of the order of the data;
`num_workers` is not, and may change when a run is resumed.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hnet_lm.checks import require_choice, require_number, require_whole
from hnet_lm.errors import ConfigError
from hnet_lm.registry import Kind

DATA_FORMATS: Kind[Any] = Kind(
    "data format",
    "hnet_lm.data.formats.format:DataFormat",
    "hnet_lm.data_formats",
    {
        "text": "hnet_lm.data.formats.plain:Text",
        "bytes": "hnet_lm.data.formats.plain:Bytes",
        "jsonl": "hnet_lm.data.formats.jsonl:Jsonl",
        "parquet": "hnet_lm.data.formats.format:Parquet",
        "fasta": "hnet_lm.data.formats.fasta:Fasta",
    },
    ConfigError,
)
AUTO = "auto"
AmbiguousBases = Literal["keep", "drop", "split"]
OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class FastaConfig:
    """How FASTA records become documents.

    Attributes:
        fold_case: Lower-case (soft-masked) bases become upper case.
        n_runs: What to do with runs of N: `keep` them, `drop` them and join both sides, or `split` the document there.
        window: A record is cut into documents of at most this many bases, so that no chromosome is ever in memory as a
            whole.
        reverse_complement: Half of the documents, drawn anew in each epoch, are read from the reverse strand.
    """

    fold_case: bool = True
    n_runs: AmbiguousBases = "split"
    window: int = 1 << 20
    reverse_complement: bool = False

    def __post_init__(self) -> None:
        require_choice("data.sources.fasta.n_runs", self.n_runs, get_args(AmbiguousBases))
        require_whole("data.sources.fasta.window", self.window, 1)


@dataclass(frozen=True)
class SourceConfig:
    """One source of documents.

    Attributes:
        path: A file, a glob, a URL that fsspec knows (`s3://...`), `sample:english` (chinese, code, dna) for a bundled
            sample, or `hf:NAME` for a dataset of the Hugging Face hub or a local dataset directory.
        format: text, jsonl, parquet, fasta, bytes, or one of your own, `my_module:Csv`; `auto` goes by the file's
            suffix (before that of a compression), and reads files with other suffixes as bytes.
        weight: This source's share of the bytes, relative to the other sources' weights.
        field: The JSONL field or the parquet or hub column that holds the text.
        prompt_field: A JSONL field whose text precedes that of `field`: it is read, but its bytes are not targets, and
            bits per byte do not count them. Empty: none.
        separator: Text files are cut into documents at this string; empty: a file is one document.
        split: `train` or `validation` of a sample; any split of a hub dataset, or rows of one: `train[:95%]`.
        subset: The hub dataset's configuration name; empty: its default.
        fasta: FASTA options.
        options: The keys of a format of your own.
    """

    path: str
    format: str = AUTO
    weight: float = 1.0
    field: str = "text"
    prompt_field: str = ""
    separator: str = ""
    split: str = "train"
    subset: str = ""
    fasta: FastaConfig = FastaConfig()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("data.sources.path is empty; name a file, a glob, a URL, sample:NAME or hf:NAME")
        if self.path == "hf:":
            raise ConfigError("data.sources.path is 'hf:' without a name; write hf:OWNER/NAME of a dataset")
        if self.format != AUTO:
            DATA_FORMATS.parse({"name": self.format, **self.options}, "data.sources.format")
        elif self.options:
            raise ConfigError(f"data.sources.options are those of a format; name that of {self.path!r} by format")
        require_number(f"data.sources.weight of {self.path!r}", self.weight, above=0)
        if not self.field:
            raise ConfigError(f"data.sources.field is empty; name the field of {self.path!r} that holds the text")
        if self.prompt_field == self.field:
            raise ConfigError(f"data.sources.prompt_field: {self.path!r} has {self.field!r} as its field already")

    @property
    def format_class(self) -> type | None:
        """The class of the format; None if each file's suffix decides."""
        return None if self.format == AUTO else DATA_FORMATS.find(self.format, "data.sources.format")


@dataclass(frozen=True)
class CurriculumConfig:
    """Other weights of the sources, from some point of the run on.

    Attributes:
        from_positions: The point, as a number of positions read by all ranks together.
        weights: One per source, in their order; 0 leaves a source out.
    """

    from_positions: int
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        require_whole("data.curriculum.from_positions", self.from_positions, 1)
        if not all(0 <= weight < float("inf") for weight in self.weights) or not any(self.weights):
            raise ConfigError(f"data.curriculum.weights must be 0 or more, and one above 0; got {list(self.weights)}")


@dataclass(frozen=True)
class DataConfig:
    """Sources, and how their documents become batches.

    Attributes:
        sources: At least one.
        tokens_per_batch: Positions in one batch of one rank; every batch has exactly this many.
        max_length: Longest sequence, in positions; longer documents are cut.
        shuffle_bytes: Size of the shuffle buffer of one stream, in bytes; 0 keeps the order of the files.
        seed: Of the order of files, of the shuffle and of augmentation.
        streams: Independent readers that take turns to produce batches; at most this many workers can work at once.
        num_workers: Background processes; 0 reads in the training process. Does not change the batches.
        tokenizer: A `tokenizer.json`: batches are its tokens (the BPE baseline), cut at the same places as batches of
            bytes; `tokens_per_batch` and `max_length` still count bytes. Empty: bytes.
        on_error: `raise` stops at a damaged file or record, `skip` counts it and goes on.
        curriculum: Weights that replace those of the sources, each from some point on, in rising order.
    """

    sources: tuple[SourceConfig, ...]
    tokens_per_batch: int = 8192
    max_length: int = 1024
    shuffle_bytes: int = 64 << 20
    seed: int = 0
    streams: int = 1
    num_workers: int = 0
    tokenizer: str = ""
    on_error: OnError = "raise"
    curriculum: tuple[CurriculumConfig, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "curriculum", tuple(self.curriculum))
        if self.tokenizer and any(source.prompt_field for source in self.sources):
            raise ConfigError("data.sources.prompt_field: goes with models of bytes, not with data.tokenizer")
        if not self.sources:
            raise ConfigError("data.sources is empty; name at least one source")
        require_choice("data.on_error", self.on_error, get_args(OnError))
        for name in ("tokens_per_batch", "max_length", "streams"):
            require_whole(f"data.{name}", getattr(self, name), 1)
        for name in ("shuffle_bytes", "seed", "num_workers"):
            require_whole(f"data.{name}", getattr(self, name), 0)
        if self.max_length > self.tokens_per_batch:
            raise ConfigError(
                f"data.max_length ({self.max_length}) is above data.tokens_per_batch ({self.tokens_per_batch}); "
                "a sequence must fit into a batch"
            )
        places = [phase.from_positions for phase in self.curriculum]
        if places != sorted(set(places)):
            raise ConfigError(f"data.curriculum.from_positions must rise from one to the next; got {places}")
        for phase in self.curriculum:
            if len(phase.weights) != len(self.sources):
                raise ConfigError(
                    f"data.curriculum.weights must be one for each source; got {len(phase.weights)} for "
                    f"{len(self.sources)} sources"
                )

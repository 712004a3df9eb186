"""`hnet-lm match`: configurations of the baseline families that cost as many FLOPs per byte as a given model."""

import json
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from hnet_lm.baselines import (
    FAMILIES,
    FAMILY_KIND,
    TOLERANCE,
    Cutting,
    Family,
    Match,
    entropy_threshold,
    match,
    rule_bytes_per_chunk,
)
from hnet_lm.checkpoint import load
from hnet_lm.chunker_config import CHUNKERS, ChunkerConfig
from hnet_lm.cli.architecture import PUBLISHED_LENGTH, Architecture, published_bytes_per_chunk, read_architecture
from hnet_lm.cli.mistakes import MISTAKE
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.run_file import matched_run, plain_run, to_toml
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.cli.tables import print_table
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, documents, open_byte_pairs
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.evaluation.comparison import plain_number
from hnet_lm.extras import import_leaf
from hnet_lm.model.dynamic_chunking.chunkers.entropy import EntropyChunkerConfig
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.model.sizes import parameters_by_part
from hnet_lm.outputs import OutputFolder
from hnet_lm.weights import meta_model

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

BYTE_VOCABULARY = 256


class Target(NamedTuple):
    """The cost to match: forward FLOPs per byte, and the lengths at which they are counted."""

    flops_per_byte: float
    sequence_length: int
    bytes_per_chunk: tuple[float, ...]
    lines: list[str]
    """Lines to print about it; the first one names assumptions, if there are any."""


@dataclass(frozen=True)
class Command:
    """Find layer counts and widths of other families that cost as many FLOPs per byte as a model; write configs and run
    files."""

    to: str
    """The model: the folder of a run, a run file (TOML or a name, such as english), a saved model, a config (JSON or a
    name, such as hnet_2stage_L), or hf:owner/name."""
    family: tuple[str, ...] = ()
    """llamabyte, llamabyte-windowed, llamabyte-ngrams, mambabyte, spacebyte, spacebyte++, hnet-space, hnet-pool,
    hnet-random, hnet-entropy (with --byte-model), hnet-1stage, hnet-2stage, bpe, or one of your own, MODULE:NAME.
    Default: all built-in ones that need nothing more."""
    output: Annotated[str, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = "matched"
    """Folder of FAMILY.json, FAMILY.toml (a run of it) and the tokenizer."""
    bytes_per_chunk: tuple[float, ...] = ()
    """Actual bytes of input per chunk of each stage, outermost first (`evaluate bpb` prints them). Default: the last
    that its run measured."""
    other_bytes_per_chunk: tuple[float, ...] = ()
    """The same for the H-Net with another number of stages. Default: 4.8, or 2.65, 7.02, as published."""
    sequence_length: int | None = None
    """Sequence length in bytes; default: the longest of its run, or 8192."""
    text: str = "sample:english"
    """Text on which chunks cut at spaces, tokens and entropies are measured, and a tokenizer is trained."""
    max_bytes: int = 2_000_000
    """Read at most this many bytes of it."""
    stride: int = 6
    """Bytes per chunk of hnet-pool, hnet-random and hnet-entropy."""
    byte_model: str | None = None
    """A saved byte model that says where hnet-entropy cuts."""
    tokenizer: Path | None = None
    """A tokenizer.json for bpe; by default one is trained."""
    num_tokens: int = 4096
    """Vocabulary size of the trained tokenizer."""
    tolerance: float = TOLERANCE
    """Largest relative difference in cost."""
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)

    def run(self) -> int:
        require_at_least(1, sequence_length=self.sequence_length, max_bytes=self.max_bytes)
        require_at_least(2, stride=self.stride)
        require_at_least(0, tolerance=self.tolerance)
        families = self._families()
        folder = OutputFolder.tried(self.output)
        model = read_architecture(self.to)
        target = self._target(model)
        run = model.run or plain_run(self.text, target.sequence_length)
        heading = (
            f"Written by: hnet-lm match --to {self.to}\n"
            f"Costs as many FLOPs per byte as {self.to} at sequences of {target.sequence_length} bytes.\n"
            + ("" if model.run else "Its steps, batches and rates are plain defaults: set them before a comparison.\n")
            + "Paths of data and run are seen from the folder in which the training is started."
        )
        rows: list[list[str]] = []
        files: dict[str, str | bytes] = {}
        unmatched: list[ConfigError] = []
        for name, family in families.items():
            try:
                found, notes = self._match(family, model.config, target)
            except ConfigError as error:
                unmatched.append(error)
                continue
            file = name.replace(":", "-")
            matched = matched_run(
                run,
                found.config,
                config_path=f"{file}.json",
                directory=f"{run.run.directory}-{file}" if model.run else f"runs/{file}",
                bytes_per_chunk=found.bytes_per_chunk,
                tokenizer=str(folder.path.absolute() / TOKENIZER) if found.config.reads_tokens else "",
                byte_model=str(Path(self.byte_model).absolute()) if name == "hnet-entropy" and self.byte_model else "",
            )
            files[f"{file}.json"] = json.dumps(found.config.to_dict(), indent=2) + "\n"
            files[f"{file}.toml"] = to_toml(matched, heading)
            if found.config.reads_tokens:
                _, files[TOKENIZER] = self._tokenizer
            rows.append([file, *_columns(found), notes])
        if not rows:
            raise unmatched[0]
        for line in target.lines:
            print(line)
        headings = ("family", "layout", "widths", "parameters", "MFLOPs/byte", "of target", "bytes/chunk")
        print_table(headings, rows, text_columns=(0, 1))
        if "_documents" in vars(self) and not self._documents[1]:  # only if they were asked for
            print(f"chunks at spaces and tokens are measured on the first {self.max_bytes:,} bytes of {self.text}")
        folder.write(files)
        print(f"written to {self.output}/; train one by: hnet-lm train {self.output}/{rows[0][0]}.toml")
        for error in unmatched:
            say(f"left out: {error}")
        return MISTAKE if unmatched and self.family else 0

    def _target(self, model: Architecture) -> Target:
        """The cost of the model, and the assumptions behind it."""
        config, name = model.config, self.to
        length = self.sequence_length or model.max_length or PUBLISHED_LENGTH
        length_origin = "as given" if self.sequence_length else "its data.max_length"
        chunks, chunks_origin = (self.bytes_per_chunk, "as given") if self.bytes_per_chunk else model.bytes_per_chunk
        per_token = self._bytes_per_token_of(model) if config.reads_tokens else 1.0
        cost = total_flops_per_byte(config, length, chunks, per_token)
        sizes = ", ".join(f"{size:.4g}" for size in chunks)
        assumed = []
        if not (self.sequence_length or model.max_length):
            length_origin = "assumed"
            assumed.append(f"sequences of {length} bytes (--sequence-length)")
        if chunks and chunks_origin.startswith("assumed"):
            assumed.append(f"{sizes} bytes per chunk{chunks_origin.removeprefix('assumed')} (--bytes-per-chunk)")
        lines = [
            f"{name}: {plain_number(cost / 1e6, 4)} MFLOPs per byte, at sequences of {length} bytes ({length_origin})"
        ]
        lines[0] += f" and {sizes} bytes per chunk ({chunks_origin.partition(',')[0]})" if chunks else ""
        if assumed:
            lines.insert(0, f"assumed: {' and '.join(assumed)}; give what is true, or --to the folder of a trained run")
        return Target(cost, length, tuple(chunks), lines)

    def _families(self) -> dict[str, Family]:
        families = {name: FAMILY_KIND.find(name, "--family") for name in self.family}
        if "hnet-entropy" in families and self.byte_model is None:
            raise UserError("hnet-entropy needs --byte-model, a saved byte model whose entropy says where to cut")
        return families or {name: family for name, family in FAMILIES.items() if name != "hnet-entropy"}

    def _match(self, family: Family, reference: HNetConfig, target: Target) -> tuple[Match, str]:
        """The match, and the bytes per chunk (or token) in words."""
        options: dict[str, Any] = {}
        notes = ""
        if reference.reads_tokens:  # its vocabulary is of tokens
            options["vocab_size"] = BYTE_VOCABULARY
        if family.reads_tokens:
            pairs, _ = self._tokenizer
            length = self._bytes_per_token(pairs)
            options |= {"bytes_per_token": length, "vocab_size": pairs.vocab_size}
            notes = f"{length:.3g}"
        elif family.num_stages and not CHUNKERS.find(family.cut, family.title).learns:
            cutting, length = self._cutting(family, reference)
            options |= {"cutting": cutting, "bytes_per_chunk": (length,)}
            notes = f"{length:.3g}"
        elif family.num_stages:
            if family.cut != "dynamic":
                options["cutting"] = Cutting(CHUNKERS.parse({"name": family.cut}, family.title))
            given = (target.bytes_per_chunk, self.other_bytes_per_chunk)
            known = next((chunks for chunks in given if len(chunks) == family.num_stages), None)
            options["bytes_per_chunk"] = known or published_bytes_per_chunk(family.num_stages)
            notes = ", ".join(f"{n:.3g}" for n in options["bytes_per_chunk"]) + ("" if known else " (assumed)")
        matched = match(
            family, reference, target.flops_per_byte, target.sequence_length, tolerance=self.tolerance, **options
        )
        return matched, notes

    def _cutting(self, family: Family, reference: HNetConfig) -> tuple[Cutting, float]:
        """The rule that cuts, and its bytes per chunk: as given, or as measured on the text."""
        kind: type[ChunkerConfig] = CHUNKERS.find(family.cut, family.title)
        if kind is EntropyChunkerConfig:
            assert self.byte_model is not None  # `_families` asks for it
            model = load(self.byte_model)
            threshold = entropy_threshold(model, self._documents[0], float(self.stride))
            return Cutting(EntropyChunkerConfig(threshold), model.config), float(self.stride)
        as_asked = kind.for_ratio(self.stride)
        if as_asked is not None:
            return Cutting(as_asked), float(self.stride)
        rule = CHUNKERS.parse({"name": family.cut}, family.title)
        bos_id = BYTE_VOCABULARY - 2 if reference.reads_tokens else reference.bos_id
        return Cutting(rule), rule_bytes_per_chunk(rule, self._documents[0], bos_id)

    def _bytes_per_token_of(self, model: Architecture) -> float:
        path = self.tokenizer or Path(self.to) / TOKENIZER
        if not path.is_file():
            raise UserError(f"{self.to}: the model reads tokens; give its --tokenizer, which says how long they are")
        return self._bytes_per_token(open_byte_pairs(str(path)))

    def _bytes_per_token(self, pairs: "BytePairs") -> float:
        texts, _ = self._documents
        return sum(map(len, texts)) / sum(len(pairs.encode(text).ids) for text in texts)

    @cached_property
    def _tokenizer(self) -> "tuple[BytePairs, bytes]":
        """The given tokenizer, or one trained on the text; with its tokenizer.json."""
        if self.tokenizer is not None:
            return open_byte_pairs(str(self.tokenizer)), self.tokenizer.read_bytes()
        leaf = import_leaf("hnet_lm.data.byte_pairs", "eval", "the bpe family")
        texts, _ = self._documents
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / TOKENIZER
            leaf.train_byte_pairs(texts, self.num_tokens, path)
            return open_byte_pairs(str(path)), path.read_bytes()

    @cached_property
    def _documents(self) -> tuple[list[bytes], bool]:
        """The text, up to `max_bytes`, and whether that is all of it. Raises UserError if it is empty."""
        texts: list[bytes] = []
        room = self.max_bytes
        for document in documents(DataConfig((self.sources.source(self.text, "train"),)), report=self.sources.report()):
            if not room:
                return texts, False
            texts.append(document.data[:room])
            if len(document.data) > room:
                return texts, False
            room -= len(document.data)
        if not any(texts):
            raise UserError(f"{self.text}: has no byte to measure chunks and tokens on")
        return texts, True


def _columns(found: Match) -> list[str]:
    stages = found.config.stages
    stacks = [stage.encoder for stage in stages[:-1]] + [stages[-1].main_network]
    stacks += [stage.decoder for stage in reversed(stages[:-1])]
    num_parameters = sum(parameters_by_part(meta_model(found.config)).values())
    return [
        "+".join(map(str, stacks)),
        ",".join(str(stage.d_model) for stage in stages),
        f"{plain_number(num_parameters / 1e6, 3)} M",
        plain_number(found.flops_per_byte / 1e6, 4),
        f"{100 * found.ratio:.1f} %",
    ]

"""`hnet-lm match`: configurations of the baseline families that cost as many FLOPs a byte as a given model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hnet_lm.baselines import (
    FAMILIES,
    TOLERANCE,
    Cutting,
    Family,
    Match,
    entropy_threshold,
    match,
    space_bytes_per_chunk,
)
from hnet_lm.checkpoint import CONFIG, load
from hnet_lm.chunker_config import EntropyChunkerConfig, PoolChunkerConfig, RandomChunkerConfig, SpaceChunkerConfig
from hnet_lm.cli.info import default_bytes_per_chunk
from hnet_lm.cli.tables import print_table
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig, documents, open_byte_pairs
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.errors import UserError, unknown_key
from hnet_lm.extras import import_leaf
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.model.sizes import parameters_by_part
from hnet_lm.weights import meta_model


@dataclass(frozen=True)
class Command:
    """Find layer counts and widths of other families that cost as many FLOPs a byte as a model; write their configs."""

    to: Path
    """The model: a config (JSON), or a directory that has a config.json."""
    family: tuple[str, ...] = ()
    """llamabyte, llamabyte-windowed, mambabyte, spacebyte, spacebyte++, hnet-space, hnet-pool, hnet-random,
    hnet-entropy (with --byte-model), hnet-1stage, hnet-2stage, bpe. Default: all that need nothing more."""
    output: Path = Path("configs/matched")
    """Folder of the configs, one FAMILY.json each, and of the tokenizer."""
    bytes_per_chunk: tuple[float, ...] = ()
    """Bytes of input a chunk that the model really makes, of each stage, outermost first (`evaluate bpb` prints them).
    Without it, and for H-Nets of another number of stages: about those of the published models, 4.8, or 2.65, 7.02."""
    sequence_length: int = 8192
    """Bytes of a sequence."""
    text: str = "sample:english"
    """Text on which chunks cut at spaces, tokens and entropies are measured, and a tokenizer is trained."""
    max_bytes: int = 2_000_000
    """Read so much of it."""
    stride: int = 6
    """Bytes a chunk of hnet-pool, hnet-random and hnet-entropy."""
    byte_model: str | None = None
    """A saved byte model that says where hnet-entropy cuts."""
    tokenizer: Path | None = None
    """A tokenizer.json for bpe; by default one is trained."""
    num_tokens: int = 4096
    """Of the tokenizer that is trained."""
    tolerance: float = TOLERANCE
    """How far the cost may be off."""

    def run(self) -> None:
        reference = HNetConfig.load(self.to / CONFIG if self.to.is_dir() else self.to)
        own_chunks = self.bytes_per_chunk or default_bytes_per_chunk(reference.num_stages)
        target = total_flops_per_byte(reference, self.sequence_length, own_chunks)
        self.output.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in self._families():
            found, notes = self._match(FAMILIES[name], reference, target, own_chunks)
            path = self.output / f"{name}.json"
            path.write_text(json.dumps(found.config.to_dict(), indent=2) + "\n", encoding="utf-8")
            rows.append([name, *_columns(found), notes])
        print(f"{self.to}: {target / 1e6:.4g} MFLOPs a byte, sequences of {self.sequence_length} bytes")
        print_table(("family", "layout", "widths", "parameters", "MFLOPs/byte", "of target", "bytes/chunk"), rows)
        print(f"written to {self.output}/")

    def _families(self) -> list[str]:
        for name in self.family:
            if name not in FAMILIES:
                raise unknown_key(name, FAMILIES, "--family")
        return list(self.family) or [name for name in FAMILIES if name != "hnet-entropy"]

    def _match(
        self, family: Family, reference: HNetConfig, target: float, own_chunks: tuple[float, ...]
    ) -> tuple[Match, str]:
        """The match, and the bytes a chunk (or a token) in words."""
        options: dict[str, Any] = {}
        if family.reads_tokens:
            options, notes = self._tokens()
        elif family.cut != "dynamic":
            options, notes = self._cutting(family, reference)
        elif family.num_stages:
            is_like = family.num_stages == reference.num_stages
            chunks = own_chunks if is_like else default_bytes_per_chunk(family.num_stages)
            options, notes = {"bytes_per_chunk": chunks}, ", ".join(f"{n:.3g}" for n in chunks)
        else:
            notes = ""
        return match(family, reference, target, self.sequence_length, tolerance=self.tolerance, **options), notes

    def _cutting(self, family: Family, reference: HNetConfig) -> tuple[dict[str, Any], str]:
        length = float(self.stride)
        match family.cut:
            case "space":
                cutting = Cutting(SpaceChunkerConfig())
                length = space_bytes_per_chunk(self._documents(), reference.bos_id)
            case "pool":
                cutting = Cutting(PoolChunkerConfig(self.stride))
            case "random":
                cutting = Cutting(RandomChunkerConfig(1 / self.stride))
            case _:
                cutting = self._entropy_cutting(length)
        return {"cutting": cutting, "bytes_per_chunk": (length,)}, f"{length:.3g}"

    def _entropy_cutting(self, length: float) -> Cutting:
        if self.byte_model is None:
            raise UserError("hnet-entropy needs --byte-model, a saved byte model whose entropy says where to cut")
        model = load(self.byte_model)
        threshold = entropy_threshold(model, self._documents(), length)
        return Cutting(EntropyChunkerConfig(threshold), model.config)

    def _tokens(self) -> tuple[dict[str, Any], str]:
        path = self.tokenizer
        if path is None:
            path = self.output / TOKENIZER
            leaf = import_leaf("hnet_lm.data.byte_pairs", "eval", "the bpe family")
            leaf.train_byte_pairs(self._documents(), self.num_tokens, path)
        pairs = open_byte_pairs(str(path))
        texts = list(self._documents())
        length = sum(map(len, texts)) / sum(len(pairs.encode(text).ids) for text in texts)
        return {"bytes_per_token": length, "vocab_size": pairs.vocab_size}, f"{length:.3g}"

    def _documents(self) -> Iterator[bytes]:
        """The text, up to `max_bytes`."""
        room = self.max_bytes
        for document in documents(DataConfig((SourceConfig(self.text),))):
            yield document.data[:room]
            room -= len(document.data)
            if room <= 0:
                return


def _columns(found: Match) -> list[str]:
    stages = found.config.stages
    stacks = [stage.encoder for stage in stages[:-1]] + [stages[-1].main_network]
    stacks += [stage.decoder for stage in reversed(stages[:-1])]
    num_parameters = sum(parameters_by_part(meta_model(found.config)).values())
    return [
        "+".join(map(str, stacks)),
        ",".join(str(stage.d_model) for stage in stages),
        f"{num_parameters / 1e6:.3g} M",
        f"{found.flops_per_byte / 1e6:.4g}",
        f"{100 * found.ratio:.1f} %",
    ]

"""Each document once and in order, for measurements on held-out text."""

from collections.abc import Iterator

from hnet_lm.data.batch import Batch
from hnet_lm.data.block import Block, PackedBlock
from hnet_lm.data.config import DataConfig
from hnet_lm.data.error_report import ErrorReport
from hnet_lm.data.parts import Document
from hnet_lm.data.runs import Run, run_of
from hnet_lm.data.source import Source
from hnet_lm.data.split import EVERYTHING, Split

NO_RESERVED_BYTES = 258


def documents(
    config: DataConfig,
    *,
    vocab_size: int = NO_RESERVED_BYTES,
    report: ErrorReport | None = None,
    hold_out: float | None = None,
) -> Iterator[Document]:
    """The whole documents of all sources, source by source and file by file. Weights and sizes do not matter here.

    With a `vocab_size` below 258, documents with the bytes of BOS or EOS are errors. `report` handles damaged files and
    records, by default as `config.on_error` says; a document with a damaged part is left out as a whole. With
    `hold_out`, only the documents that a loader with this fraction leaves out.
    """
    split = EVERYTHING if hold_out is None else Split(hold_out, is_held_out=True)
    for source in _sources(config, vocab_size, report, split):
        parts: list[bytes] = []
        size = num_prompt = 0
        for part, _, file in source.epoch(0):
            if part.starts:
                parts, size, num_prompt = [], 0, part.num_prompt
            elif part.offset + 1 != size:  # a part before this one was damaged
                continue
            parts.append(part.data if part.starts else part.data[1:])
            size += len(parts[-1])
            if part.ends:
                yield Document(b"".join(parts), source.paths[file], part.record, num_prompt)


def one_pass(config: DataConfig, *, vocab_size: int = 256, max_batches: int | None = None) -> Iterator[Batch]:
    """Each document once in packed batches, unshuffled; the last batch is shorter. Weights do not matter here."""
    num_batches = 0
    block = Block(config.tokens_per_batch)
    for run in _runs(config, vocab_size):
        rest: Run | None = run
        while rest is not None:
            taken = block.add(rest)
            rest = rest.after(taken) if taken < rest.num_inputs else None
            if block.is_full:
                yield _pack(block, config, vocab_size)
                num_batches += 1
                if num_batches == max_batches:
                    return
                block = Block(config.tokens_per_batch)
    if block.num_positions:
        yield _pack(block, config, vocab_size)


def _sources(
    config: DataConfig, vocab_size: int, report: ErrorReport | None = None, split: Split = EVERYTHING
) -> Iterator[Source]:
    report = ErrorReport(config.on_error) if report is None else report
    for index, source in enumerate(config.sources):
        yield Source(source, index, vocab_size=vocab_size, report=report, seed=config.seed, split=split)


def _runs(config: DataConfig, vocab_size: int) -> Iterator[Run]:
    for source in _sources(config, vocab_size):
        for part, _, file in source.epoch(0):
            yield run_of(part, source.index, 0, file)


def _pack(block: Block, config: DataConfig, vocab_size: int) -> Batch:
    packed = PackedBlock(
        block,
        tokens_per_batch=config.tokens_per_batch,
        max_length=config.max_length,
        vocab_size=vocab_size,
        shuffle=None,
    )
    return Batch.from_arrays(packed.arrays(0))

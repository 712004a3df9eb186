"""Bytes that the backward pass keeps of every position, found without computing anything.

Each kind of block is run on fake tensors of the real sizes and types, and what autograd saves is counted; what a block
keeps whatever the number of positions (weights that autocast rounded) is left out. Around the blocks, what the rest of
the model keeps (norms, routing, chunking, head and loss) is counted in a real pass of the model without its blocks,
over a few positions. The ops are those of the CPU; others save about as much.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hnet_lm.config import HNetConfig
from hnet_lm.layout import BlockKind, parse_layout
from hnet_lm.losses import next_byte_loss
from hnet_lm.model.block import build_block
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.sequences import Sequences
from hnet_lm.weights import meta_model

POSITIONS = 256
"""Of the shorter of two passes whose difference counts, about."""
SEQUENCE_LENGTHS = (1, 2, 4, 64)
"""The shorter sequences are, the longer are the inner stages: each begins with a chunk."""


@dataclass(frozen=True)
class BlockCost:
    """What one block takes."""

    stage: int
    num_parameters: int
    num_rounded: int
    """Of the parameters, those of linear maps, which autocast rounds."""
    bytes_per_position: float
    """Kept for the backward pass."""
    input_bytes: int
    """Of a position of its input: what is kept where blocks are recomputed."""


def block_costs(config: HNetConfig, precision: torch.dtype, sequence_lengths: Sequence[float]) -> list[BlockCost]:
    """Every block, in the order of a forward pass. What attention keeps depends on how long the sequences of its stage
    are."""
    known: dict[tuple[int, BlockKind], BlockCost] = {}

    def of_layout(stage: int, layout: str | None) -> Iterator[BlockCost]:
        for kind in parse_layout(layout) if layout else ():
            if (stage, kind) not in known:
                known[stage, kind] = _block_cost(config, stage, kind, precision, max(1, round(sequence_lengths[stage])))
            yield known[stage, kind]

    def of_stage(stage: int) -> Iterator[BlockCost]:
        this = config.stages[stage]
        if this.is_innermost:
            yield from of_layout(stage, this.main_network)
        else:
            yield from of_layout(stage, this.encoder)
            yield from of_stage(stage + 1)
            yield from of_layout(stage, this.decoder)

    return list(of_stage(0))


def _block_cost(
    config: HNetConfig, stage: int, kind: BlockKind, precision: torch.dtype, sequence_length: int
) -> BlockCost:
    with FakeTensorMode(allow_non_fake_inputs=True):
        block = build_block(kind, config.stages[stage], config.mamba2)
        width = config.stages[stage].d_model

        def run(num_sequences: int) -> Tensor:
            x = torch.randn(num_sequences * sequence_length, width, requires_grad=True)
            return block(x, Sequences.from_lengths([sequence_length] * num_sequences))[0]

        num = max(1, POSITIONS // sequence_length)
        saved = (_bytes_kept(run, 2 * num, precision) - _bytes_kept(run, num, precision)) / (num * sequence_length)
    maps = [module for module in block.modules() if isinstance(module, nn.Linear)]
    return BlockCost(
        stage,
        sum(parameter.numel() for parameter in block.parameters()),
        sum(parameter.numel() for module in maps for parameter in module.parameters()),
        saved,
        4 * width,
    )


def bytes_around_blocks(config: HNetConfig, precision: torch.dtype) -> list[float]:
    """Of a position of each stage, for all that is no block: what is saved depends linearly on the lengths of the
    stages, and so follows from passes in which these differ.
    """
    model = meta_model(config)
    for module in model.modules():
        if isinstance(module, Isotropic):
            module.blocks = nn.ModuleList()
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    lengths, sizes = [], []
    for num_positions in (POSITIONS, 2 * POSITIONS):
        for sequence_length in SEQUENCE_LENGTHS:
            ids = torch.randint(97, 123, (num_positions,), generator=generator)
            num_sequences = num_positions // sequence_length
            seqs = Sequences.from_lengths([sequence_length] * num_sequences)
            with storages_saved() as saved, torch.autocast("cpu", precision, enabled=precision != torch.float32):
                out = model(ids, seqs)
                next_byte_loss(out.logits, ids)
            sizes.append(_bytes_of(saved))
            inner = [int(routing.is_boundary.sum()) for routing in out.routings]
            lengths.append([num_positions, *inner, num_sequences, 1])
    equations = torch.tensor(lengths, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
    return torch.linalg.lstsq(*equations).solution.squeeze(1)[: len(config.stages)].tolist()


def _bytes_kept(run: Callable[[int], Tensor], size: int, precision: torch.dtype) -> int:
    """What is saved in `run(size)`."""
    with storages_saved() as saved, torch.autocast("cpu", precision, enabled=precision != torch.float32):
        run(size)
    return _bytes_of(saved)


@contextmanager
def storages_saved() -> Iterator[dict[int, torch.UntypedStorage]]:
    """Storages that autograd saves within the block, each once."""
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _bytes_of(saved: Mapping[int, torch.UntypedStorage]) -> int:
    return sum(storage.nbytes() for storage in saved.values())

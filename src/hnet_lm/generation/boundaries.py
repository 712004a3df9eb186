"""What the routing of one call says about each byte of one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

from hnet_lm.model import Routing


@dataclass(frozen=True)
class ByteBoundary:
    """A byte as the stages see it: its boundary probability in each stage that it reaches, outermost first.

    A byte that starts a chunk in a stage reaches the next one; `depth` counts the stages in which it does.
    """

    probs: tuple[float, ...]
    depth: int


def byte_boundaries(routings: Sequence[Routing], sequence: int, stage: int = 0) -> list[ByteBoundary]:
    """The positions that a sequence has in this call, outermost stage first; a boundary goes on to the next stage."""
    if stage == len(routings):
        return []
    routing = routings[stage]
    start, end = routing.seqs.cu_seqlens[sequence : sequence + 2].tolist()
    probs = routing.boundary_prob[start:end].tolist()
    starts_chunk = routing.is_boundary[start:end].tolist()
    inner = iter(byte_boundaries(routings, sequence, stage + 1))
    found = []
    for prob, is_start in zip(probs, starts_chunk, strict=True):
        below = next(inner, ByteBoundary((), 0)) if is_start else ByteBoundary((), 0)
        found.append(ByteBoundary((prob, *below.probs), int(is_start) + below.depth))
    return found

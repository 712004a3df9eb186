"""Shows what the chunker learned: segments and probabilities, pictures and statistics.

PNG pictures (`inspect.png`) need a package of their own and are imported by name.
"""

from hnet_lm.inspect.html import render_html
from hnet_lm.inspect.model_chunks import chunks
from hnet_lm.inspect.statistics import Agreement, StageSummary, agreement, summarize
from hnet_lm.inspect.structure import Chunks, StageChunks

__all__ = [
    "Agreement",
    "Chunks",
    "StageChunks",
    "StageSummary",
    "agreement",
    "chunks",
    "render_html",
    "summarize",
]

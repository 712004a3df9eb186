"""FLOPs a byte, by stage and part, counted as the paper counts them (appendix B) for a sequence of length L, width d:

| part           | FLOPs of one forward pass                                                                           |
|----------------|-----------------------------------------------------------------------------------------------------|
| embedding      | 2 L V d                                                                                             |
| n-grams        | L d for each size: a row is looked up and added, and no product with one-hot vectors is counted     |
| attention      | qkv 2 L d (h + 2 g) p, g = h or the shared heads of keys and values, logits 2 L K (h p), softmax    |
|                | 3 h L K, values 2 L K (h p), output 2 L (h p) d;                                                    |
|                | K = L, or window + 1 where that is smaller: the full square, no causal discount                     |
| Mamba-2        | z, x 2 L d (2 e d), B, C, dt 2 L d (2 n + heads), scan 2*3 L (e d) n, convolution 2 L (e d + 2 n) w,|
|                | gate 5 L (e d), output 2 L (e d) d                                                                  |
| gated MLP      | 2 L (3 d f) + 5 L d                                                                                 |
| routing        | 2 L d d for each of its two matrices; of another chunker what it says, and its byte model's         |
| residual proj  | 2 L d d                                                                                             |
| head           | 2 L V d                                                                                             |

Norms, smoothing and the moving of rows are not counted. An inner stage is as long as the chunks really made. The
backward pass costs twice the forward one.
"""

from collections.abc import Sequence

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.layout import BlockKind, parse_layout
from hnet_lm.stage_config import Mamba2Config, StageConfig

FORWARD_AND_BACKWARD = 3


def forward_flops_per_byte(
    config: HNetConfig, bytes_per_chunk: Sequence[float], sequence_length: int
) -> dict[tuple[int, str], float]:
    """FLOPs a byte of every (stage, part). `bytes_per_chunk` are the bytes of input a chunk of each chunking stage."""
    lengths = stage_lengths(config, bytes_per_chunk, sequence_length)
    embedding = 2 * sequence_length * config.vocab_size * config.stages[0].d_model
    flops: dict[tuple[int, str], float] = {(0, "embedding"): embedding}
    if config.ngrams is not None:
        flops[0, "ngrams"] = len(config.ngrams.sizes) * sequence_length * config.stages[0].d_model
    for s, (stage, length) in enumerate(zip(config.stages, lengths, strict=True)):
        for part, layout in stage.layouts.items():
            blocks = parse_layout(layout)
            flops[s, part] = sum(
                _block_flops(block, stage.of_block(i), config.mamba2, length) for i, block in enumerate(blocks)
            )
        if not stage.is_innermost:
            matrix = 2 * length * stage.d_model**2
            flops[s, "routing"] = _chunker_flops(config, s, length, sequence_length)
            is_projected = not config.spacebyte and config.chunking_of(s).residual == "projection"
            flops[s, "residual_proj"] = matrix if is_projected else 0
    flops[0, "head"] = embedding
    return {key: value / sequence_length for key, value in flops.items()}


def total_flops_per_byte(
    config: HNetConfig, sequence_length: int, bytes_per_chunk: Sequence[float], bytes_per_token: float = 1.0
) -> float:
    """Of all parts, for a sequence of so many bytes; to a model of tokens it is shorter than to one of bytes."""
    num_positions = max(1, round(sequence_length / bytes_per_token))
    return sum(forward_flops_per_byte(config, bytes_per_chunk, num_positions).values()) / bytes_per_token


def _chunker_flops(config: HNetConfig, stage: int, length: float, sequence_length: int) -> float:
    chunker = config.chunker(stage)
    flops = length * chunker.flops_per_position(config.chunker_site(stage))
    if chunker.asks_byte_model and config.byte_model is not None:
        chunks = [1.0] * config.byte_model.num_stages  # at most: nothing says how long its own chunks are
        flops += sequence_length * sum(forward_flops_per_byte(config.byte_model, chunks, sequence_length).values())
    return flops


def stage_lengths(config: HNetConfig, bytes_per_chunk: Sequence[float], sequence_length: int) -> list[float]:
    """Positions of every stage. Raises ConfigError for chunks that cannot be."""
    if len(bytes_per_chunk) != config.num_stages:
        raise ConfigError(
            f"bytes_per_chunk: the model chunks {config.num_stages} times, but {len(bytes_per_chunk)} values are given"
        )
    sizes = [1.0, *bytes_per_chunk]
    if sizes != sorted(sizes):
        raise ConfigError(f"bytes_per_chunk: must be 1 or more and not shrink inwards, got {list(bytes_per_chunk)}")
    if not sizes[-1] <= sequence_length:
        raise ConfigError(f"sequence_length: {sequence_length} bytes are less than one chunk of {sizes[-1]}")
    return [sequence_length / size for size in sizes]


def visible_positions(stage: StageConfig, length: float) -> float:
    """K: the positions one position attends to in a sequence of this length, in a stage's block (`of_block`)."""
    window = stage.attention.window_size
    return length if window < 0 else min(length, window + 1)


def _block_flops(block: BlockKind, stage: StageConfig, mamba2: Mamba2Config, length: float) -> float:
    mixer = _mamba2_flops(stage.d_model, mamba2, length) if block.mixer == "mamba2" else _attention_flops(stage, length)
    return mixer + (_mlp_flops(stage, length) if block.has_mlp else 0)


def _attention_flops(stage: StageConfig, length: float) -> float:
    d, h, visible = stage.d_model, stage.attention.num_heads, visible_positions(stage, length)
    d_heads = h * stage.head_dim
    d_qkv = d_heads + 2 * stage.attention.kv_heads * stage.head_dim
    qkv_and_output = 2 * length * d * d_qkv + 2 * length * d_heads * d
    logits_and_values = 2 * (2 * length * visible * d_heads)
    return qkv_and_output + logits_and_values + 3 * h * length * visible


def _mamba2_flops(d: int, config: Mamba2Config, length: float) -> float:
    d_inner, n = config.expand * d, config.d_state
    heads = d_inner // MAMBA2_HEAD_DIM
    projections = 2 * length * d * (2 * d_inner) + 2 * length * d * (2 * n + heads) + 2 * length * d_inner * d
    scan = 2 * 3 * length * d_inner * n
    convolution = 2 * length * (d_inner + 2 * n) * config.d_conv
    return projections + scan + convolution + 5 * length * d_inner


def _mlp_flops(stage: StageConfig, length: float) -> float:
    return 2 * length * 3 * stage.d_model * stage.d_intermediate + 5 * length * stage.d_model

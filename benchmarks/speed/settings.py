"""How much is measured: all that a published figure needs, or (`QUICK`) just enough to see that everything runs."""

from dataclasses import dataclass
from pathlib import Path

from hnet_lm.generation.rounded_weights import Weights
from hnet_lm.named_configs import FOLDER

ROOT = Path(__file__).parents[2]
MODELS = FOLDER / "models"
BYTES_PER_CHUNK = 5.0  # what random routers are set to


@dataclass(frozen=True)
class PeaksSettings:
    matmul_sizes: tuple[int, ...] = (512, 1024, 2048, 4096)
    buffer_bytes: int = 1 << 30
    """Far more than any cache holds."""


@dataclass(frozen=True)
class TrainingSettings:
    num_sequences: int = 16
    length: int = 2048
    """Bytes of a sequence."""
    peer_sequences: int = 4
    """Of transformers' Mamba2 and of our model with equal layers: 16 would need 20 GB there."""
    num_tokens: int = 4096
    """Of the BPE tokenizer."""
    tolerance: float = 0.02
    """How far the cost of the matched models may be off."""


@dataclass(frozen=True)
class MambaSettings:
    """The model without chunks that is set beside transformers' Mamba2."""

    width: int = 256
    num_layers: int = 8
    peer_chunk_sizes: tuple[int, ...] = (256, 64)
    """Blocks of their scan: their default, and ours."""


@dataclass(frozen=True)
class DecodingSettings:
    streams: tuple[int, ...] = (1, 16, 64, 256)
    mamba_streams: tuple[int, ...] = (1, 16, 64)
    prompt_bytes: int = 64
    num_steps: int = 32
    """In one timing: a chunk begins in every fifth, so a single one says little."""
    engine_bytes: int = 128
    smaller_weights: tuple[Weights, ...] = ("bfloat16", "int8")
    """Types of weights in which the bench model decodes as well."""
    contexts: tuple[int, ...] = (1024, 4096, 16384)
    """At which the state's size is taken."""


@dataclass(frozen=True)
class LengthSettings:
    lengths: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768, 65536)
    step_bytes: int = 65536
    """Of every length, in as many sequences as that takes."""
    window: int = 255
    """Chunks or bytes that attention looks back: so many chunks are in the shortest sequence."""
    rounds: int = 2


@dataclass(frozen=True)
class Settings:
    name: str = "full"
    rounds: int = 3
    """Timings of each subject; the median counts."""
    model: Path = MODELS / "bench.json"
    reading_model: Path = MODELS / "demo.json"
    peaks: PeaksSettings = PeaksSettings()
    training: TrainingSettings = TrainingSettings()
    mamba: MambaSettings = MambaSettings()
    decoding: DecodingSettings = DecodingSettings()
    length: LengthSettings = LengthSettings()
    read_lengths: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    read_passes: int = 3
    demo: Path = FOLDER / "runs" / "demo.toml"


FULL = Settings()
QUICK = Settings(
    name="quick",
    rounds=2,
    model=MODELS / "tiny_1stage.json",
    reading_model=MODELS / "tiny_1stage.json",
    peaks=PeaksSettings(matmul_sizes=(128, 256), buffer_bytes=1 << 25),
    training=TrainingSettings(num_sequences=2, length=256, peer_sequences=1, num_tokens=512, tolerance=0.05),
    mamba=MambaSettings(width=64, num_layers=2, peer_chunk_sizes=(64,)),
    decoding=DecodingSettings((1, 4), (1, 4), prompt_bytes=16, num_steps=4, engine_bytes=8, contexts=(256, 512)),
    length=LengthSettings((256, 512, 1024), step_bytes=1024, window=31, rounds=1),
    read_lengths=(100, 1_000, 10_000),
    read_passes=1,
)

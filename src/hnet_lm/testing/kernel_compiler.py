"""Compiling kernels for a GPU that is not there, and reading from the machine code what they need of it.

`launches_of` says which kernels a function would launch, with which types and sizes, `model_launches` which those of a
training step of a model in bfloat16 are; `compiled` makes machine code of
one of them with the assembler that Triton brings. Registers, spills, shared memory and instructions of the tensor cores
are read from the result. Nothing here says how fast it is.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import Autotuner

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.layout import parse_layout
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.kernels.launch import Launch, recorded
from hnet_lm.ops.mamba2 import mamba2
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.rotary import rotary
from hnet_lm.ops.swiglu import swiglu
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import StageConfig

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_MEMORY = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}
"""Bytes that one program may have at most."""
MATRIX_INSTRUCTIONS = {
    "sm_80": r"mma\.sync",
    "sm_90": r"wgmma\.mma_async|mma\.sync",
    "sm_100": r"tcgen05\.mma|mma\.sync",
    "gfx942": r"v_mfma",
}
TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int8: "i8",
    torch.bool: "i1",
}


@dataclass(frozen=True)
class Compiled:
    """What a kernel needs on a target."""

    kernel: str
    target: str
    num_warps: int
    num_stages: int
    registers: int
    """Of a thread."""
    spilled: int
    """Bytes of a thread that did not fit into registers."""
    shared: int
    """Bytes of a program."""
    multiplies: bool
    """Whether its source has a product of matrices."""
    uses_tensor_cores: bool

    @property
    def fits(self) -> bool:
        return self.shared <= SHARED_MEMORY[self.target]


def launches_of(run: Callable[[], Any]) -> list[Launch]:
    """The kernels that `run` would launch, one for each of their variants. It may use tensors of the CPU."""
    with recorded() as launches:
        run()
    return list({_variant(each): each for each in launches}.values())


def model_launches(config: HNetConfig, num_positions: int = 4096) -> list[Launch]:
    """Every kernel of a training step in bfloat16, one for each of its variants."""
    found = [
        each
        for stage in config.stages
        for part in PARTS
        if parts_of(stage)[part]
        for each in part_launches(config, stage, part, num_positions)
    ]
    return list({_variant(each): each for each in found}.values())


def part_launches(config: HNetConfig, stage: StageConfig, part: str, num_positions: int) -> list[Launch]:
    """The kernels of one of the parts of a stage, forward and backward in bfloat16, in their order."""
    with use_backend("triton"), recorded() as launches:
        for output in PARTS[part](config, stage, Sequences.from_lengths([num_positions])):
            output.backward(torch.zeros_like(output))
    return launches


def parts_of(stage: StageConfig) -> Counter[str]:
    """How often a stage has each part. A mixer and an MLP are counted with the norm before them."""
    blocks = [block for layout in stage.layouts.values() for block in parse_layout(layout)]
    is_cut = stage.encoder is not None
    mixers = Counter(block.mixer for block in blocks)
    return Counter(mixers | {"mlp": sum(block.has_mlp for block in blocks), "routing": is_cut, "smoothing": is_cut})


def _mamba2(config: HNetConfig, stage: StageConfig, seqs: Sequences) -> list[Tensor]:
    t, width, n = seqs.num_positions, config.mamba2.expand * stage.d_model, config.mamba2.d_state
    h, channels = width // MAMBA2_HEAD_DIM, width + 2 * n
    taps, bias = _leaf(channels, config.mamba2.d_conv, wide=True), _leaf(channels, wide=True)
    dt_bias, A_log, D = (_leaf(h, wide=True) for _ in range(3))
    zxbcdt, norm = _leaf(t, width + channels + h), _leaf(width, wide=True)
    y = mamba2(zxbcdt, taps, bias, dt_bias, A_log, D, norm, 1e-5, seqs, dtype=torch.bfloat16)
    return [_norm(stage, t), y]


def _attention(config: HNetConfig, stage: StageConfig, seqs: Sequences) -> list[Tensor]:
    t, h, g = seqs.num_positions, stage.attention.num_heads, stage.attention.kv_heads
    qk = _leaf(t, h + 2 * g, stage.head_dim)[:, : h + g]
    return [_norm(stage, t), rotary(qk, seqs.positions, stage.attention.rotary_emb_dim)]


def _mlp(config: HNetConfig, stage: StageConfig, seqs: Sequences) -> list[Tensor]:
    t = seqs.num_positions
    return [_norm(stage, t), swiglu(*_leaf(t, 2 * stage.d_intermediate).chunk(2, dim=1))]


def _routing(config: HNetConfig, stage: StageConfig, seqs: Sequences) -> list[Tensor]:
    t, d = seqs.num_positions, stage.d_model
    return [boundary_prob(_leaf(t, d), _leaf(t, d), seqs)[0]]


def _smoothing(config: HNetConfig, stage: StageConfig, seqs: Sequences) -> list[Tensor]:
    """Its positions are the chunks of the stage."""
    t = seqs.num_positions
    return [ema_scan(_leaf(t, stage.d_model, wide=True), _leaf(t, wide=True), seqs)[0]]


PARTS = {"mamba2": _mamba2, "attention": _attention, "mlp": _mlp, "routing": _routing, "smoothing": _smoothing}


def _norm(stage: StageConfig, t: int) -> Tensor:
    return rms_norm(_leaf(t, stage.d_model, wide=True), _leaf(stage.d_model, wide=True), 1e-5, dtype=torch.bfloat16)


def _leaf(*shape: int, wide: bool = False) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32 if wide else torch.bfloat16, requires_grad=True)


def _variant(launch: Launch) -> str:
    return f"{name(launch)} {_signature(launch)}"


def num_bytes(launch: Launch) -> int:
    """What a launch reads and writes if it passes over each tensor once."""
    tensors = {(x.data_ptr(), x.numel()): x for x in launch.arguments if isinstance(x, Tensor)}
    return sum(x.numel() * x.element_size() for x in tensors.values())


def name(launch: Launch) -> str:
    """The op and the kernel, with the flags that are set."""
    function = _function(launch)
    op = function.module.removeprefix("hnet_lm.ops.").partition(".")[0]
    flags = [key.lower() for key, value in launch.options.items() if value is True]
    return " ".join([f"{op}.{function.__name__.removeprefix('_')}", *flags])


def compiled(launch: Launch, target: str, *, every: bool = True) -> Iterator[Compiled]:
    """Machine code for each configuration that would be tried, or only up to the first that spills nothing."""
    function = _function(launch)
    signature, constants, attributes = _signature(launch)
    source = ASTSource(function, signature, constants, attributes)
    for options in _configurations(launch):
        binary = triton.compile(source, target=TARGETS[target], options=options)
        text = binary.asm["amdgcn"] if target.startswith("gfx") else binary.asm["ptx"]
        registers, spilled = _amd_resources(text) if target.startswith("gfx") else _nvidia_resources(binary)
        found = Compiled(
            name(launch),
            target,
            binary.metadata.num_warps,
            binary.metadata.num_stages,
            registers,
            spilled,
            binary.metadata.shared,
            "tt.dot" in binary.asm["ttir"],
            re.search(MATRIX_INSTRUCTIONS[target], text) is not None,
        )
        yield found
        if not every and found.fits and not spilled:
            return


def _function(launch: Launch) -> Any:
    return launch.kernel.fn if isinstance(launch.kernel, Autotuner) else launch.kernel


def _configurations(launch: Launch) -> list[dict[str, int]]:
    given = {key: launch.options[key] for key in ("num_warps", "num_stages") if key in launch.options}
    if not isinstance(launch.kernel, Autotuner):
        return [given]
    return [{"num_warps": each.num_warps, "num_stages": each.num_stages} for each in launch.kernel.configs]


def _signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[Any]]]:
    """Types, constants and what is known to be divisible by 16, as Triton finds them at a launch."""
    names = _function(launch).arg_names
    values = dict(zip(names, launch.arguments, strict=False)) | launch.options
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[Any]] = {}
    of_kernel = {parameter.name for parameter in _function(launch).params if parameter.is_constexpr}
    for i, each in enumerate(names):
        value = values[each]
        if each in of_kernel or (isinstance(value, int) and value == 1):
            signature[each], constants[each] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[each] = f"*{TYPES[value.dtype]}"
        else:
            signature[each] = "fp32" if isinstance(value, float) else "i32" if abs(value) < 1 << 31 else "i64"
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _nvidia_resources(binary: Any) -> tuple[int, int]:
    """Registers, and bytes of local memory that are no arrays of the source, of a thread.

    The cosine of a large angle has such an array.
    """
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text.stdout)
    assert found is not None, text.stdout
    arrays = sum(int(size) for size in re.findall(r"__local_depot\d+\[(\d+)\]", binary.asm["ptx"]))
    return int(found[1]), max(0, int(found[2]) + int(found[3]) - arrays)


def _amd_resources(text: str) -> tuple[int, int]:
    registers, spilled = (re.search(rf"\.{key}:\s+(\d+)", text) for key in ("vgpr_count", "vgpr_spill_count"))
    assert registers is not None
    assert spilled is not None
    return int(registers[1]), 4 * int(spilled[1])

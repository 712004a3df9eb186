"""What data sheets say of GPUs: peaks of dense matrix products, and memory.

Sources: the data sheets of NVIDIA (A100, H100, H200, HGX B200, L40S, Ada architecture) and of AMD (MI300X). Figures
"with sparsity" are halved.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gpu:
    """A model of GPU."""

    name: str
    """As it is asked for."""
    device_names: tuple[str, ...]
    """Words that the name which torch reports has all of."""
    bfloat16: float
    """FLOP/s of products in bfloat16 that are summed in float32."""
    tf32: float
    float32: float
    memory: float
    """Bytes."""

    def peak(self, dtype: torch.dtype, tf32: bool = False) -> float:
        """FLOP/s of products of this type."""
        return self.bfloat16 if dtype == torch.bfloat16 else self.tf32 if tf32 else self.float32


GPUS = (
    Gpu("a100-40", ("A100", "40GB"), 312e12, 156e12, 19.5e12, 40e9),
    Gpu("a100", ("A100",), 312e12, 156e12, 19.5e12, 80e9),
    Gpu("h100-pcie", ("H100", "PCIe"), 756e12, 378e12, 51e12, 80e9),
    Gpu("h100", ("H100",), 989e12, 494e12, 67e12, 80e9),
    Gpu("h200", ("H200",), 989e12, 494e12, 67e12, 141e9),
    Gpu("b200", ("B200",), 2250e12, 1100e12, 75e12, 180e9),
    Gpu("l40s", ("L40S",), 362e12, 183e12, 91.6e12, 48e9),
    Gpu("rtx4090", ("RTX 4090",), 165e12, 82.6e12, 82.6e12, 24e9),
    Gpu("mi300x", ("MI300X",), 1307e12, 653e12, 163e12, 192e9),
)
"""Of two that fit a device, the first one counts."""


def known_gpu(device_name: str) -> Gpu | None:
    """The GPU that torch reports by this name; None: its data sheet is not here."""
    return next((gpu for gpu in GPUS if all(word in device_name for word in gpu.device_names)), None)


def data_sheet_peak(device: torch.device, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """FLOP/s of this device by its data sheet; None: not known."""
    gpu = known_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return None if gpu is None else gpu.peak(dtype, tf32)

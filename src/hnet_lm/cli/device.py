"""The device of a command: the values of `--device`."""

import torch

from hnet_lm.errors import UserError

NAMES = {"cuda": "CUDA", "mps": "MPS", "xpu": "XPU"}


def find_device(name: str) -> torch.device:
    """The device of this name. Raises UserError that lists the devices of this machine if it does not have it."""
    present = _present()
    known = f"there {'is' if len(present) == 1 else 'are'} {', '.join(present)}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no such device; {known}") from None
    if device.type in present and str(device) in (device.type, f"{device.type}:0", *present):
        return device
    if device.type in present:
        raise UserError(f"--device {name}: this machine has no {device}; {known}")
    if device.type not in NAMES:
        raise UserError(f"--device {name}: no device to compute on; {known}")
    kind = NAMES[device.type]
    compiled = torch.accelerator.current_accelerator()
    if compiled is None or compiled.type != device.type:
        raise UserError(f"--device {name}: this torch is built without {kind}; {known}")
    raise UserError(f"--device {name}: torch finds no {kind} device on this machine; {known}")


def _present() -> list[str]:
    """cpu, and the accelerator with each of its numbers: cpu, cuda, cuda:1."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    others = [f"{accelerator.type}:{index}" for index in range(1, torch.accelerator.device_count())]
    return ["cpu", accelerator.type, *others]

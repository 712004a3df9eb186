"""Steppers: objects that own the state of many streams and read one byte of each, or spans, at a time."""

from typing import Any

from hnet_lm.generation.stepper.cpu import CpuStepper
from hnet_lm.generation.stepper.pages import OutOfPages, PagePool
from hnet_lm.generation.stepper.plain import PlainStepper
from hnet_lm.generation.stepper.stepper import KeysValues, StepOutput, Stepper
from hnet_lm.model import HNetLM

__all__ = [
    "STEPPERS",
    "CpuStepper",
    "KeysValues",
    "OutOfPages",
    "PagePool",
    "PlainStepper",
    "StepOutput",
    "Stepper",
    "build_stepper",
]

STEPPERS: tuple[type[Stepper], ...] = (CpuStepper, PlainStepper)
"""In order of preference; the last one supports every model."""


def build_stepper(model: HNetLM, max_streams: int, **options: Any) -> Stepper:
    """The first stepper that supports the model; `options` are those of `Stepper`."""
    stepper = next(stepper for stepper in STEPPERS if stepper.supports(model) is None)
    return stepper(model, max_streams, **options)

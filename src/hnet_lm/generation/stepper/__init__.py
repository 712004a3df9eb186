"""Steppers: objects that own the state of many streams and read one byte of each, or spans, at a time."""

from typing import Any

from hnet_lm.generation.rounded_weights import Weights, with_weights
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


def build_stepper(model: HNetLM, max_streams: int, *, weights: Weights | None = None, **options: Any) -> Stepper:
    """The first stepper that supports the model with these weights; `options` are the others of `Stepper`."""
    model = model if weights is None else with_weights(model, weights)
    stepper = next(stepper for stepper in STEPPERS if stepper.supports(model) is None)
    return stepper(model, max_streams, **options)

"""Steppers: objects that own the state of many streams and read one byte of each, or spans, at a time."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from hnet_lm.errors import ConfigError
from hnet_lm.generation.rounded_weights import Weights, with_weights
from hnet_lm.generation.stepper.cpu import CpuStepper
from hnet_lm.generation.stepper.cuda import CudaStepper
from hnet_lm.generation.stepper.pages import OutOfPages, PagePool
from hnet_lm.generation.stepper.plain import PlainStepper
from hnet_lm.generation.stepper.static import StaticStepper
from hnet_lm.generation.stepper.stepper import KeysValues, StepOutput, Stepper
from hnet_lm.model import HNetLM

__all__ = [
    "STEPPERS",
    "CpuStepper",
    "CudaStepper",
    "KeysValues",
    "OutOfPages",
    "PagePool",
    "PlainStepper",
    "StaticStepper",
    "StepOutput",
    "Stepper",
    "StepperName",
    "build_stepper",
]

StepperName = Literal["cpu", "cuda", "static", "plain"]

STEPPERS: Mapping[str, type[Stepper]] = dict(
    zip(get_args(StepperName), (CpuStepper, CudaStepper, StaticStepper, PlainStepper), strict=True)
)
PREFERENCES: tuple[StepperName, ...] = ("cpu", "cuda", "plain")
"""The last one supports every model on every device."""


def build_stepper(
    model: HNetLM,
    max_streams: int,
    *,
    name: StepperName | str | None = None,
    weights: Weights | None = None,
    **options: Any,
) -> Stepper:
    """The stepper of this name, or the first that supports the model with these weights; `options` are the others of
    `Stepper`.

    Raises ConfigError for a name that does not exist, and for one that cannot decode with this model here.
    """
    if name is not None and name not in STEPPERS:
        raise ConfigError(f"there is no stepper {name!r}; there are {', '.join(STEPPERS)}")
    model = model if weights is None else with_weights(model, weights)
    names = PREFERENCES if name is None else (name,)
    stepper = next((STEPPERS[each] for each in names if STEPPERS[each].supports(model) is None), STEPPERS[names[-1]])
    return stepper(model, max_streams, **options)

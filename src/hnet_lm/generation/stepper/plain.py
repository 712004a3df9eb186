"""The stepper of every model on every device: a step is a call of the model's forward.

So hooks, adapters, quantised and otherwise replaced layers do in decoding what they do anywhere else.
"""

from collections.abc import Sequence

from hnet_lm.generation.stepper.stepper import StepOutput, Stepper


class PlainStepper(Stepper):
    """One packed call of the model per step."""

    def _step(self, streams: Sequence[int], ids: Sequence[int]) -> StepOutput:
        return self._forward(streams, [[i] for i in ids])

"""The operations a model is made of that are more than one line of torch: leaves, pure functions over packed sequences.

Each is a folder with a function of its name: `from hnet_lm.ops.ssd import ssd`. An op that carries state takes it as
its last argument and returns it with its result, `y, state = op(..., state)`. With None nothing is carried in or out
(training). The state has one row per slot, and the passed one is consumed. An op checks its arguments and chooses a
backend (`dispatch`). No op calls another, but for `mamba2`, which is made of three and lists them as its parts.
"""

from hnet_lm.ops.dispatch import use_backend

__all__ = ["use_backend"]

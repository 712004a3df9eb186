"""The ops, each on this backend."""

from functools import partial

from hnet_lm.ops.mamba2._composed import composed

mamba2 = partial(composed, "torch")

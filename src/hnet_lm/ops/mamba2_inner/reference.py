"""The three ops, each on this backend."""

from functools import partial

from hnet_lm.ops.mamba2_inner._composed import composed

mamba2_inner = partial(composed, "reference")

"""The ops, each on this backend."""

from functools import partial

from hnet_lm.ops.gated_mlp._composed import composed

gated_mlp = partial(composed, "torch")

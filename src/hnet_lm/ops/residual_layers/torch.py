"""The ops, each on this backend."""

from functools import partial

from hnet_lm.ops.residual_layers._composed import composed

residual_layers = partial(composed, "torch")

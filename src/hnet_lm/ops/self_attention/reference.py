"""The ops, each on this backend."""

from functools import partial

from hnet_lm.ops.self_attention._composed import composed

self_attention = partial(composed, "reference")

"""The import hook of conftest.py is on: a wrong shape anywhere in the package is an error while tests run."""

import jaxtyping
import pytest
import torch

from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences


def test_a_wrong_shape_is_refused() -> None:
    seqs = Sequences.from_lengths([3])
    with pytest.raises(jaxtyping.TypeCheckError, match="p"):
        ema_scan(torch.zeros(3, 2), torch.zeros(4), seqs)


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="cu_seqlens"):
        Sequences(torch.zeros(2))

"""The import hook of conftest.py is on: a wrong shape anywhere in the package is an error while tests run."""

import importlib
import inspect
import sys

import jaxtyping
import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences
from shape_checks import says_a_shape


def test_a_wrong_shape_is_refused() -> None:
    seqs = Sequences.from_lengths([3])
    with pytest.raises(jaxtyping.TypeCheckError, match="p"):
        ema_scan(torch.zeros(3, 2), torch.zeros(4), seqs)


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="cu_seqlens"):
        Sequences(torch.zeros(2))


def test_functions_are_checked_that_say_a_shape_and_no_others() -> None:
    assert not hasattr(HNetConfig.load, "__wrapped__")
    num_checked = 0
    for name in [name for name in sys.modules if name.startswith(("hnet_lm.model.", "hnet_lm.ops."))]:
        for _, function in inspect.getmembers(importlib.import_module(name), inspect.isfunction):
            if function.__module__ == name and any(map(says_a_shape, function.__annotations__.values())):
                assert hasattr(function, "__wrapped__"), f"{name}.{function.__name__}"
                num_checked += 1
    assert num_checked > 5

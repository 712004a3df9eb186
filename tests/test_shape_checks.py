"""The import hook of conftest.py is on: a wrong shape anywhere in the package is an error while tests run."""

import inspect
import sys

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences
from shape_checks import checked, says_a_shape


def test_a_wrong_shape_is_refused() -> None:
    seqs = Sequences.from_lengths([3])
    with pytest.raises(jaxtyping.TypeCheckError, match="p"):
        ema_scan(torch.zeros(3, 2), torch.zeros(4), seqs)


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="cu_seqlens"):
        Sequences(torch.zeros(2))


def test_functions_are_checked_that_say_a_shape_and_no_others() -> None:
    assert not hasattr(HNetConfig.load, "__wrapped__")
    assert HNetLM.__module__ in sys.modules
    num_checked = 0
    for module in [module for name, module in sys.modules.items() if name.startswith("hnet_lm.model.")]:
        classes = [kind for _, kind in inspect.getmembers(module, inspect.isclass)]
        for owner in (module, *classes):
            for name, function in inspect.getmembers(owner, inspect.isfunction):
                if function.__module__ == module.__name__ and any(map(says_a_shape, function.__annotations__.values())):
                    assert hasattr(function, "__wrapped__"), f"{owner.__name__}.{name}"
                    num_checked += 1
    assert num_checked > 15


def test_a_call_is_looked_at_if_its_arguments_or_its_result_are_new() -> None:
    def halves(x: Float[Tensor, "t d"], num_rows: int) -> Float[Tensor, "t d"]:
        return x[:num_rows]

    function, x = checked(halves), torch.zeros(4, 2)
    for _ in range(3):
        assert function(x, 4) is not None
        with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
            function(x, 3)
        with pytest.raises(jaxtyping.TypeCheckError, match="x"):
            function(x[0], 4)
        with pytest.raises(jaxtyping.TypeCheckError, match="x"):
            function(x.long(), 4)
        with pytest.raises(jaxtyping.TypeCheckError, match="num_rows"):
            function(x, 4.0)
    assert function(torch.zeros(5, 2), num_rows=5).shape == (5, 2)

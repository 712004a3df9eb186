"""The small layers against their formulas."""

import torch
from torch.nn.functional import silu

from hnet_lm.model.layers import Float32Linear, GatedMLP, RMSNorm, Widen


def test_rms_norm() -> None:
    norm = RMSNorm(6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight)


def test_rms_norm_of_large_bfloat16_does_not_overflow() -> None:
    norm = RMSNorm(8).bfloat16()
    y = norm(torch.full((2, 8), 1e25))
    assert y.dtype == torch.bfloat16
    assert norm(torch.full((2, 8), 1e15)).float().sub(1).abs().max() < 1e-2


def test_the_gate_is_the_second_half() -> None:
    mlp = GatedMLP(3, 5).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    value, gate = mlp.fc1.weight[:5], mlp.fc1.weight[5:]
    torch.testing.assert_close(mlp(x), (silu(x @ gate.T) * (x @ value.T)) @ mlp.fc2.weight.T)


def test_a_norm_that_feeds_a_linear_map_has_its_type_under_autocast() -> None:
    x = torch.randn(4, 6)
    norms = RMSNorm(6), RMSNorm(6, feeds_linear=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert [norm(x).dtype for norm in norms] == [torch.float32, torch.bfloat16]
    assert [norm(x).dtype for norm in norms] == [torch.float32, torch.float32]


def test_float32_linear_under_autocast_and_in_bfloat16() -> None:
    layer, x = Float32Linear(16, 16), torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x @ layer.weight.T + layer.bias)
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_widen_appends_one_vector_to_every_row() -> None:
    widen = Widen(3, 5)
    torch.nn.init.normal_(widen.pad_vector)
    x = torch.randn(4, 3)
    y = widen(x)
    assert y[:, :3].equal(x)
    assert y[:, 3:].equal(widen.pad_vector.expand(4, 2))
    assert widen(x[:0]).shape == (0, 5)


def test_widen_to_the_same_width_has_no_weight() -> None:
    widen, x = Widen(3, 3), torch.randn(4, 3)
    assert list(widen.parameters()) == []
    assert widen(x).equal(x)

"""Products of any number of rows with each type of weights equal torch's in float64; nothing else is written."""

import pytest
import torch
from torch import Tensor, nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.products import DEPTH, FEW, GROUPS, add_product, num_lanes
from hnet_lm.generation.stepper.cpu.program import Program, Rows

MAX_ROWS = 70
TYPES = [
    (torch.float32, None, 1e-5),
    (torch.float32, torch.bfloat16, 1e-5),
    (torch.float32, torch.int8, 1e-5),
    (torch.float64, None, 1e-13),
]

every_type = pytest.mark.parametrize(("dtype", "rounded", "atol"), TYPES, ids=str)


def linear_of(d_in: int, d_out: int, dtype: torch.dtype, rounded: torch.dtype | None) -> nn.Module:
    weight = torch.randn(d_out, d_in, dtype=dtype) / d_in**0.5
    if rounded is not None:
        return RoundedLinear(weight, rounded)
    linear = nn.Linear(d_in, d_out, bias=False, dtype=dtype)
    linear.weight.data = weight
    return linear


def rows_of(max_rows: int, dtype: torch.dtype) -> Rows:
    count, slots = torch.zeros(1, dtype=torch.int64), torch.arange(max_rows)
    return Rows(count, slots, torch.zeros(max_rows, dtype=dtype), torch.zeros(max_rows, dtype=dtype))


def check(
    d_in: int,
    d_out: int,
    max_rows: int,
    counts: list[int],
    dtype: torch.dtype,
    rounded: torch.dtype | None,
    atol: float,
) -> None:
    """y and what it is added to, for each number of rows; nothing is written behind them."""
    linear = linear_of(d_in, d_out, dtype, rounded)
    program, rows = Program(dtype, max_rows, max(d_in, d_out)), rows_of(max_rows, dtype)
    x, y, total = (program.buffer(d) for d in (d_in, d_out, d_out))
    add_product(program, rows, "linear.weight", linear, x, y, total)
    for count in counts:
        x.normal_()
        y.fill_(7)
        total.normal_()
        before = total.clone()
        rows.count[0] = count
        program.run()
        expected = nn.functional.linear(x[:count].double(), weight_of(linear))
        torch.testing.assert_close(y[:count].double(), expected, rtol=0, atol=atol)
        torch.testing.assert_close(total[:count].double(), before[:count].double() + expected, rtol=0, atol=atol)
        assert (y[count:] == 7).all()
        assert total[count:].equal(before[count:])


def weight_of(linear: nn.Module) -> Tensor:
    assert isinstance(linear, nn.Linear | RoundedLinear)
    return linear.weight.detach().double()


@every_type
def test_every_number_of_rows(dtype: torch.dtype, rounded: torch.dtype | None, atol: float) -> None:
    check(37, 101, MAX_ROWS, list(range(MAX_ROWS + 1)), dtype, rounded, atol)


@every_type
@pytest.mark.parametrize("num_threads", [1, 3])
def test_products_of_many_ranges(
    dtype: torch.dtype, rounded: torch.dtype | None, atol: float, num_threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for _ in range(5):
            check(DEPTH + 200, 1301, 30, [1, 3, 4, 23, 30], dtype, rounded, 5 * atol)
    finally:
        torch.set_num_threads(before)


@every_type
def test_more_vectors_of_rows_than_meet_the_weights_at_once(
    dtype: torch.dtype, rounded: torch.dtype | None, atol: float
) -> None:
    most = 2 * GROUPS * num_lanes(dtype) + 5
    check(DEPTH + 3, 13, most, [FEW + 1, GROUPS * num_lanes(dtype), most], dtype, rounded, 5 * atol)


@pytest.mark.parametrize("d_out", [1, 2, 3, 5])
def test_few_outputs(d_out: int) -> None:
    check(1, d_out, 30, [1, 2, 5, 30], torch.float32, None, 1e-5)


def test_weights_of_another_shape_or_type_are_refused() -> None:
    program, rows = Program(torch.float32, 4, 16), rows_of(4, torch.float32)
    x, y = program.buffer(8), program.buffer(16)
    wrong: list[tuple[nn.Module, str]] = [
        (nn.Linear(9, 16, bias=False), r"proj.weight is \(16, 9\).* needs \(16, 8\), torch.float32"),
        (
            nn.Linear(8, 16, bias=False).double(),
            r"proj.weight is \(16, 8\), torch.float64.* needs \(16, 8\), torch.float32",
        ),
        (nn.Linear(8, 16, bias=False).bfloat16(), r"proj.weight is \(16, 8\), torch.bfloat16"),
        (RoundedLinear(torch.randn(16, 9), torch.int8), r"proj.weight is \(16, 9\), torch.int8"),
    ]
    strided = nn.Linear(8, 16, bias=False)
    strided.weight = nn.Parameter(torch.randn(8, 16).T)
    wrong.append((strided, r"proj.weight is \(16, 8\), torch.float32, of strides \(1, 16\)"))
    scaled = RoundedLinear(torch.randn(16, 8), torch.int8)
    scaled.scale = torch.ones(15)
    wrong.append((scaled, r"the scale of proj.weight is \(15,\).* needs \(16,\)"))
    for linear, message in wrong:
        with pytest.raises(ValueError, match=message):
            add_product(program, rows, "proj.weight", linear, x, y)
    assert not program._numbers

"""What compiled loops make of bfloat16 is what torch makes of it, to the bit."""

import numpy as np
import torch

from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.jit import compiled


@compiled
def round_all(numbers, halves):
    for i in range(len(numbers)):
        halves[i] = narrowed(numbers[i], halves)


@compiled
def widen_all(halves, numbers):
    for i in range(len(halves)):
        numbers[i] = widened(halves[i])


def test_rounding_is_to_the_nearest_and_of_two_to_the_even_one() -> None:
    upper = torch.randint(-(2**31), 2**31 - 1, (4000,)).to(torch.int32)
    ties = (upper & ~0xFFFF) | 0x8000
    numbers = torch.cat([upper, ties, torch.tensor([0x7F7FFFFF, 0x7FFFFFFF, 1])]).to(torch.int32).view(torch.float32)
    numbers = torch.cat([numbers, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])])
    halves = np.empty(len(numbers), np.uint16)
    round_all(numbers.numpy(), halves)
    found, wanted = torch.from_numpy(halves).view(torch.bfloat16), numbers.bfloat16()
    assert torch.equal(found.isnan(), wanted.isnan())
    known = ~wanted.isnan()
    assert torch.equal(found[known].view(torch.int16), wanted[known].view(torch.int16))


def test_every_number_becomes_the_same_float32() -> None:
    halves = torch.arange(2**16).to(torch.uint16)
    numbers = np.empty(2**16, np.float32)
    widen_all(halves.numpy(), numbers)
    assert torch.equal(
        torch.from_numpy(numbers).view(torch.int32), halves.view(torch.bfloat16).float().view(torch.int32)
    )


def test_other_types_stay_as_they_are() -> None:
    numbers, copy = np.array([1.1, 2.2]), np.empty(2)
    round_all(numbers, copy)
    assert copy.tolist() == numbers.tolist()

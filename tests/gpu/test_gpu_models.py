"""Whole models on the GPU: what they give on the CPU, the laws, and that nothing waits for the device unasked."""

import copy

import pytest
import torch
from torch import Tensor, nn
from waiting import no_waits

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences
from hnet_lm.testing.small import TEXT, small_config, small_model

LENGTHS = (90, 0, 1, 63)


def model() -> HNetLM:
    return small_model(small_config({"name": "dynamic"})).float()


def ids() -> Tensor:
    return torch.tensor(list(TEXT * 2)[: sum(LENGTHS)])


def step(model: HNetLM, device: str) -> list[Tensor]:
    logits = model(ids().to(device), Sequences.from_lengths(LENGTHS, device=device)).logits
    weights = torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)
    gradients = torch.autograd.grad((logits * weights).sum(), list(model.parameters()))
    return [each.detach().cpu() for each in (logits, *gradients)]


def test_gives_what_it_gives_on_the_cpu() -> None:
    on_cpu = model()
    on_gpu = copy.deepcopy(on_cpu).cuda()
    for actual, expected in zip(step(on_gpu, "cuda"), step(on_cpu, "cpu"), strict=True):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * scale)


@torch.no_grad()
def test_split() -> None:
    on_gpu, text = model().cuda(), ids()[:90].cuda()
    whole = on_gpu(text, Sequences.from_lengths([90], device="cuda")).logits
    state, parts = on_gpu.new_state(1), []
    for part in text.split([40, *[1] * 10, 40]):
        out = on_gpu(part, Sequences.from_lengths([len(part)], device="cuda"), state)
        state = out.state
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


def test_the_backward_pass_does_not_wait() -> None:
    published = HNetConfig.load("hnet_1stage_L").to_dict() | {"arch_layout": ["m1", ["T1"], "m1"]}
    on_gpu = HNetLM(HNetConfig.from_dict(published)).cuda()
    nn.init.normal_(on_gpu.network.get_submodule("routing.q_proj").get_parameter("weight"))
    seqs, text = Sequences.from_lengths([600, 424], device="cuda"), torch.randint(256, (1024,), device="cuda")

    def loss() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return on_gpu(text, seqs).logits.float().logsumexp(-1).sum()

    loss().backward()  # kernels are compiled and timed
    total = loss()
    with no_waits():
        total.backward()


def test_two_runs_are_equal_bit_for_bit() -> None:
    on_gpu = model().cuda()
    for first, second in zip(step(on_gpu, "cuda"), step(on_gpu, "cuda"), strict=True):
        assert first.equal(second)


@pytest.mark.slow
@torch.no_grad()
def test_beyond_2_to_the_31_numbers() -> None:
    """Of two equal sequences the second, whose rows lie beyond 2^31 numbers, gives what the first gives."""
    length, heads, n = 1 << 19, 40, 16
    if torch.cuda.mem_get_info()[0] < 60 << 30:
        pytest.skip("it takes a GPU with 60 GB free")
    one = torch.randn(length, heads * 64 + 2 * n, dtype=torch.bfloat16, device="cuda")
    x, B, C = torch.cat([one, one]).split([heads * 64, n, n], dim=1)
    assert x.numel() > 1 << 31
    dt, A, D = (
        torch.full((2 * length, heads), 0.1, device="cuda"),
        -torch.ones(heads, device="cuda"),
        torch.ones(heads, device="cuda"),
    )
    y, _ = ssd(x.unflatten(1, (heads, 64)), dt, A, B, C, D, Sequences.from_lengths([length] * 2, device="cuda"))
    assert y[:length].equal(y[length:])

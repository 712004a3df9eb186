"""The four parts of dynamic chunking against the paper's formulas, position by position."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hnet_lm.model.dynamic_chunking import Downsampler, Routing, RoutingModule, SmoothingModule, Upsampler
from hnet_lm.sequences import Sequences

LENGTHS = [6, 1, 0, 4]


def routing_of(p: Tensor, lengths: list[int]) -> Routing:
    return Routing(p, p > 0.5, Sequences.from_lengths(lengths))


def random_routing(*, requires_grad: bool = False) -> Routing:
    """Random probabilities, 1 at the start of every sequence."""
    seqs = Sequences.from_lengths(LENGTHS)
    p = torch.where(seqs.positions == 0, 1.0, torch.rand(seqs.num_positions)).double().requires_grad_(requires_grad)
    return Routing(p, p > 0.5, seqs)


def test_routing_compares_each_vector_with_the_one_before_it() -> None:
    module = RoutingModule(5).double()
    x = torch.randn(sum(LENGTHS), 5, dtype=torch.float64)
    routing, _ = module(x, Sequences.from_lengths(LENGTHS))
    expected = []
    for part in x.split(LENGTHS):
        for t in range(len(part)):
            q, k = module.q_proj.weight @ part[t - 1], module.k_proj.weight @ part[t]
            expected.append((1 - cosine_similarity(q, k, dim=0)) / 2 if t else torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(routing.boundary_prob, torch.stack(expected))
    assert routing.is_boundary.equal(routing.boundary_prob > 0.5)


def test_equal_neighbours_are_never_cut_and_opposite_ones_always() -> None:
    module = RoutingModule(4)
    torch.nn.init.eye_(module.q_proj.weight)
    torch.nn.init.eye_(module.k_proj.weight)
    a = torch.randn(4)
    routing, _ = module(torch.stack([a, a, -a, -a, 3 * a]), Sequences.from_lengths([5]))
    torch.testing.assert_close(routing.boundary_prob, torch.tensor([1.0, 0, 1, 0, 1]), rtol=0, atol=1e-6)
    assert routing.boundary_prob.ge(0).all()
    assert routing.boundary_prob.le(1).all()


def test_a_probability_of_one_half_is_no_boundary() -> None:
    module = RoutingModule(2)
    torch.nn.init.eye_(module.q_proj.weight)
    torch.nn.init.eye_(module.k_proj.weight)
    routing, _ = module(torch.eye(2), Sequences.from_lengths([2]))
    assert routing.boundary_prob.tolist() == [1, 0.5]
    assert routing.is_boundary.tolist() == [True, False]


def test_zero_vectors_give_no_nan() -> None:
    module = RoutingModule(3)
    x = torch.zeros(4, 3, requires_grad=True)
    routing, _ = module(x, Sequences.from_lengths([4]))
    (grad,) = torch.autograd.grad(routing.boundary_prob.sum(), x)
    assert routing.boundary_prob.isfinite().all()
    assert grad.isfinite().all()


def test_the_downsampler_keeps_the_boundary_vectors() -> None:
    routing = random_routing()
    x = torch.randn(sum(LENGTHS), 3)
    inner, seqs = Downsampler()(x, routing)
    assert inner.equal(x[routing.is_boundary])
    assert seqs.host_lengths == [int(part.sum()) for part in routing.is_boundary.split(LENGTHS)]


def test_smoothing_is_the_recurrence() -> None:
    routing = random_routing()
    inner_lengths = [int(part.sum()) for part in routing.is_boundary.split(LENGTHS)]
    inner = torch.randn(sum(inner_lengths), 3, dtype=torch.float64)
    z, _ = SmoothingModule(3)(inner, routing, Sequences.from_lengths(inner_lengths))
    starts = Sequences.from_lengths(inner_lengths).starts.tolist()
    p = routing.boundary_prob[routing.is_boundary].clamp(1e-4, 1 - 1e-4)
    carried = torch.zeros(3, dtype=torch.float64)
    for row in range(len(inner)):
        carried = torch.zeros_like(carried) if row in starts else carried
        carried = p[row] * inner[row] + (1 - p[row]) * carried
        torch.testing.assert_close(z[row], carried)


def test_the_upsampler_gives_every_position_its_chunk() -> None:
    routing = routing_of(torch.tensor([1, 0.2, 0.9, 0.4, 0.1, 1, 0.3]).double(), [5, 2])
    z = torch.randn(3, 2, dtype=torch.float64)
    y, _ = Upsampler(2)(z, routing, Sequences.from_lengths([2, 1]))
    assert y.equal(z[[0, 0, 1, 1, 1, 2, 2]])


def test_the_straight_through_gradient_is_that_of_the_confidence() -> None:
    """As if y were c z for c, and z for z; c falls with p where no boundary was set."""
    routing = random_routing(requires_grad=True)
    num = int(routing.is_boundary.sum())
    z = torch.randn(num, 2, dtype=torch.float64, requires_grad=True)
    inner = Sequences.from_lengths([int(part.sum()) for part in routing.is_boundary.split(LENGTHS)])
    y, _ = Upsampler(2)(z, routing, inner)
    weights = torch.randn_like(y)
    grad_z, grad_p = torch.autograd.grad(y, [z, routing.boundary_prob], weights)

    chunk = routing.is_boundary.cumsum(0) - 1
    torch.testing.assert_close(grad_z, torch.zeros_like(z).index_add(0, chunk, weights))
    sign = torch.where(routing.is_boundary, 1.0, -1.0)
    torch.testing.assert_close(grad_p, sign * (weights * z.detach()[chunk]).sum(-1))


def test_the_upsampler_goes_on_with_the_chunk_that_was_open() -> None:
    upsampler = Upsampler(2)
    state = upsampler.new_state(3, torch.float64, torch.device("cpu"))
    z = torch.randn(3, 2, dtype=torch.float64)
    first = routing_of(torch.tensor([1.0, 1.0, 0.1, 1.0]).double(), [1, 3, 0])
    y, state = upsampler(z, first, Sequences.from_lengths([1, 2, 0]), state)
    assert y.equal(z[[0, 1, 1, 2]])
    assert state is not None
    assert state.chunk.equal(torch.cat([z[[0, 2]], torch.zeros(1, 2, dtype=torch.float64)]))
    later = torch.randn(2, 2, dtype=torch.float64)
    second = routing_of(torch.tensor([0.3, 0.4, 0.2, 0.8, 1.0]).double(), [2, 2, 1])
    y, state = upsampler(later, second, Sequences.from_lengths([0, 1, 1]), state)
    assert y.equal(torch.stack([z[0], z[0], z[2], later[0], later[1]]))
    assert state is not None
    assert state.chunk.equal(torch.stack([z[0], later[0], later[1]]))

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hnet_lm.generation.params import SamplingParams
from hnet_lm.generation.sampling import RandomStream, log_probabilities, sample
from thoroughness import examples

V = 256


def draw(logits: torch.Tensor, params: SamplingParams, n: int = 20_000, **masks: torch.Tensor) -> np.ndarray:
    """Counts of each byte in n draws from one row."""
    random = RandomStream(0)
    rows = logits.expand(n, -1)
    allowed = masks.get("allowed", torch.ones(V, dtype=torch.bool)).expand(n, -1)
    seen = masks.get("seen", torch.zeros(V, dtype=torch.bool)).expand(n, -1)
    bytes_ = sample(rows, [params] * n, [random.next() for _ in range(n)], allowed, seen)
    return np.bincount(bytes_.numpy(), minlength=V)


def peaked(**logits: float) -> torch.Tensor:
    row = torch.full((V,), -50.0)
    for letter, value in logits.items():
        row[ord(letter)] = value
    return row


def test_frequencies_are_the_softmax_of_the_logits_over_temperature():
    logits = peaked(a=2.0, b=1.0, c=0.0)
    counts = draw(logits, SamplingParams(temperature=0.5))[[97, 98, 99]]
    expected = 20_000 * torch.tensor([4.0, 2.0, 0.0]).softmax(0).numpy()
    assert np.abs(counts - expected).max() < 4 * np.sqrt(20_000 * 0.25)


@pytest.mark.parametrize(
    ("params", "letters"),
    [
        (SamplingParams(temperature=0), "a"),
        (SamplingParams(top_k=2), "ab"),
        (SamplingParams(top_k=1), "a"),
        (SamplingParams(top_p=0.5), "a"),  # a has 0.64
        (SamplingParams(top_p=0.7), "ab"),
        (SamplingParams(top_p=0.0), "a"),
        (SamplingParams(min_p=0.2), "ab"),  # b is e^-1 of a, c e^-2
        (SamplingParams(min_p=1.0), "a"),
        (SamplingParams(top_k=2, top_p=0.74), "ab"),  # of a and b alone, a has 0.73
        (SamplingParams(top_k=2, top_p=0.72), "a"),
        (SamplingParams(temperature=1e-300), "a"),
    ],
)
def test_filters_keep_exactly_these_bytes(params: SamplingParams, letters: str):
    counts = draw(peaked(a=2.0, b=1.0, c=0.0, d=-1.0), params, n=3000)
    assert {chr(i) for i in counts.nonzero()[0]} == set(letters)


def test_top_k_takes_exactly_k_of_equal_bytes():
    assert (draw(torch.zeros(V), SamplingParams(top_k=5), n=3000) > 0).nonzero()[0].tolist() == [0, 1, 2, 3, 4]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    seen = torch.zeros(V, dtype=torch.bool)
    seen[[97, 99]] = True
    logits = torch.full((V,), -torch.inf)
    logits[[97, 98, 99]] = torch.tensor([4.0, 2.0, -1.0])
    counts = draw(logits, SamplingParams(repetition_penalty=2.0), seen=seen)[[97, 98, 99]]
    expected = 20_000 * torch.tensor([2.0, 2.0, -2.0]).softmax(0).numpy()
    assert np.abs(counts - expected).max() < 4 * np.sqrt(20_000 * 0.25)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidden_bytes_never_come(temperature: float):
    allowed = torch.ones(V, dtype=torch.bool)
    allowed[97] = False
    counts = draw(peaked(a=9.0, b=1.0), SamplingParams(temperature=temperature), n=500, allowed=allowed)
    assert counts[97] == 0
    assert counts[98] == 500


params_strategy = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 7, 300]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
)


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(params_strategy, min_size=1, max_size=12), st.integers(0, 2**31))
def test_a_row_gives_the_same_whatever_is_beside_it(params: list[SamplingParams], seed: int):
    generator = torch.Generator().manual_seed(seed)
    b = len(params)
    logits = 4 * torch.randn(b, V, generator=generator)
    allowed = torch.rand(b, V, generator=generator) < 0.7
    allowed[:, 0] = True
    seen = torch.rand(b, V, generator=generator) < 0.2
    uniforms = torch.rand(b, generator=generator).tolist()
    together = sample(logits, params, uniforms, allowed, seen)
    for i in range(b):
        row = slice(i, i + 1)
        assert together[i] == sample(logits[row], params[row], uniforms[row], allowed[row], seen[row])[0]
        assert allowed[i, together[i]]


def test_extreme_uniforms_hit_bytes_that_have_probability():
    logits = torch.full((2, V), -torch.inf)
    logits[:, [97, 98]] = 0.0
    everything = torch.ones(2, V, dtype=torch.bool)
    drawn = sample(logits, [SamplingParams()] * 2, [0.0, 1 - 2**-53], everything, ~everything)
    assert drawn.tolist() == [97, 98]


def test_random_streams_depend_on_their_seed_alone():
    first, again, other = RandomStream(7), RandomStream(7), RandomStream(8)
    numbers = [first.next() for _ in range(5)]
    assert numbers == [again.next() for _ in range(5)]
    assert numbers != [other.next() for _ in range(5)]
    assert RandomStream(None).next() != RandomStream(None).next()
    assert RandomStream(-1).next() == RandomStream(2**64 - 1).next()


def test_log_probabilities_are_the_models_own():
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(0))
    got = log_probabilities(logits, torch.tensor([5, 6, 7]), num_top=2)
    expected = logits.double().log_softmax(-1)
    for row, item in enumerate(got):
        assert item.logprob == pytest.approx(float(expected[row, item.byte]))
        assert [byte for byte, _ in item.top] == expected[row].argsort(descending=True)[:2].tolist()
        assert item.top[0][1] == pytest.approx(float(expected[row].max()))
    assert log_probabilities(logits, torch.tensor([5, 6, 7]), num_top=0)[1].top == ()

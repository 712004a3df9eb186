import math
import random

import pytest

from hnet_lm.errors import ConfigError
from hnet_lm.evaluation.dna import kmer_baselines
from hnet_lm.genome import reverse_complement


def spelled_out(train: list[bytes], sequences: list[bytes], order: int, both_strands: bool) -> tuple[float, int]:
    """Bits and bases, base by base with a dictionary."""
    counts: dict[tuple[int, bytes, int], int] = {}
    bits, num_bases = 0.0, 0
    for number, bases in enumerate([*train, *sequences]):
        for i, base in enumerate(bases):
            prob = 0.25
            for k in range(order + 1):
                context = bases[max(i - k, 0) : i]
                of_context = sum(counts.get((k, context, other), 0) for other in b"ACGT")
                prob = (counts.get((k, context, base), 0) + 64 * prob) / (of_context + 64)
                counts[k, context, base] = counts.get((k, context, base), 0) + 1
                if both_strands and i >= k:
                    other = reverse_complement(bases[i - k : i + 1])
                    counts[k, other[:-1], other[-1]] = counts.get((k, other[:-1], other[-1]), 0) + 1
            if number >= len(train):
                bits -= math.log2(prob)
                num_bases += 1
    return bits, num_bases


@pytest.mark.parametrize("both_strands", [True, False])
@pytest.mark.parametrize("order", [0, 1, 3, 12])
def test_baselines_are_the_context_models_that_they_say(order: int, both_strands: bool) -> None:
    draw = random.Random(0)
    repeat = bytes(draw.choices(b"ACGT", k=40))
    sequences = [repeat * 3, b"A", b"", bytes(draw.choices(b"AACG", k=90)) + reverse_complement(repeat)]
    train = [repeat + b"TTTT"]
    (found,) = kmer_baselines(sequences, [order], train=train, both_strands=both_strands)
    bits, num_bases = spelled_out(train, sequences, order, both_strands)
    assert found.num_bases == num_bases == 251
    assert found.bits == pytest.approx(bits)
    assert found.perplexity == pytest.approx(2 ** (bits / num_bases))


def test_a_repeat_is_found_by_long_contexts_and_the_other_strand_by_both() -> None:
    draw = random.Random(1)
    bases = bytes(draw.choices(b"ACGT", k=3000))
    one, both = (
        next(kmer_baselines([bases + reverse_complement(bases)], [12], both_strands=strands)).bits_per_base
        for strands in (False, True)
    )
    assert one > 1.95
    assert both < 1.85


def test_other_codes_cut_a_sequence() -> None:
    (cut,) = kmer_baselines([b"ACGTRACGNNT"], [2], both_strands=False)
    (apart,) = kmer_baselines([b"ACGT", b"ACG", b"T"], [2], both_strands=False)
    assert (cut.bits, cut.num_bases) == (apart.bits, 8)
    with pytest.raises(ConfigError, match="must be a whole number from 0 to 12, got 13"):
        list(kmer_baselines([b"ACGT"], [13]))
    assert math.isnan(next(kmer_baselines([b"NN"], [1])).bits_per_base)

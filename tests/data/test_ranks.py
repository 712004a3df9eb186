"""Ranks: no overlap, the same state everywhere, and what another number of them reads after a resume."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from data_corpora import is_same, targets_by_document

from hnet_lm.data import DataConfig, DataLoader, SourceConfig, whole_state
from hnet_lm.errors import ConfigError


@pytest.fixture(params=[1, 3])
def config(corpus: Path, request: pytest.FixtureRequest) -> DataConfig:
    source = SourceConfig(str(corpus / "part*.jsonl*"))
    return DataConfig((source,), tokens_per_batch=300, max_length=64, shuffle_bytes=1500, streams=request.param)


def test_ranks_take_turns(config: DataConfig) -> None:
    single = DataLoader(config)
    ranks = [DataLoader(config, rank=rank, num_ranks=2) for rank in range(2)]
    batches = []
    for _ in range(20):
        step = [next(rank) for rank in ranks]
        assert all(is_same(batch, next(single)) for batch in step)
        assert ranks[0].state_dict() == ranks[1].state_dict() == single.state_dict()
        batches += step
    targets_by_document(batches)  # fails where a place comes twice


def test_any_number_of_ranks_goes_on_with_the_next_batch(config: DataConfig) -> None:
    single = DataLoader(config)
    ranks = [DataLoader(config, rank=rank, num_ranks=2) for rank in range(2)]
    for rank in ranks:
        list(itertools.islice(rank, 7))
    list(itertools.islice(single, 14))
    state = ranks[1].state_dict()
    for num_ranks in (3, 1, 2):
        resumed = [DataLoader(config, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
        for rank in resumed:
            rank.load_state_dict(state)
        for _ in range(5):
            for rank in resumed:
                assert is_same(next(rank), next(single))
        state = whole_state([rank.state_dict() for rank in resumed])


def test_ranks_with_workers(config: DataConfig) -> None:
    single = DataLoader(config)
    background = dataclasses.replace(config, num_workers=2)
    with DataLoader(background, rank=0, num_ranks=2) as left, DataLoader(background, rank=1, num_ranks=2) as right:
        for _ in range(10):
            assert is_same(next(left), next(single))
            assert is_same(next(right), next(single))


@pytest.mark.parametrize(("rank", "num_ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_out_of_range_is_refused(config: DataConfig, rank: int, num_ranks: int) -> None:
    with pytest.raises(ConfigError, match="is not among"):
        DataLoader(config, rank=rank, num_ranks=num_ranks)

"""Weights that change at given places, over local files and a hub dataset with other fields, exact under a resume."""

import itertools
import json
from pathlib import Path

import pytest
from data_corpora import is_same, random_texts

from hnet_lm.data import Batch, CurriculumConfig, DataConfig, DataLoader, SourceConfig, whole_state
from hnet_lm.errors import ConfigError, DataError

CHANGES = (CurriculumConfig(6_000, (1.0, 3.0)), CurriculumConfig(12_000, (0.0, 1.0)))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """The text of one source is in `content` of local files, that of the other in `body` of a dataset directory."""
    (tmp_path / "hub").mkdir()
    for number in range(2):
        texts = random_texts(60, seed=number)
        lines = [json.dumps({"content": text, "text": "not this"}) for text in texts]
        (tmp_path / f"local{number}.jsonl").write_text("\n".join(lines))
        lines = [json.dumps({"body": text, "language": "en"}) for text in random_texts(60, seed=number + 2)]
        (tmp_path / "hub" / f"part{number}.jsonl").write_text("\n".join(lines))
    sources = (
        SourceConfig(str(tmp_path / "local*.jsonl"), field="content"),
        SourceConfig(f"hf:{tmp_path / 'hub'}", field="body"),
    )
    return DataConfig(sources, tokens_per_batch=200, max_length=50, shuffle_bytes=400, streams=2, curriculum=CHANGES)


def share_of_first(batches: list[Batch]) -> float:
    lengths = [
        (length, source)
        for batch in batches
        for length, source in zip(batch.sequences.host_lengths, batch.origin[:, 0].tolist(), strict=True)
    ]
    return sum(length for length, source in lengths if source == 0) / sum(length for length, _ in lengths)


def test_shares_change_where_they_should(config: DataConfig) -> None:
    """To within a shuffle buffer of each stream and the longest document."""
    batches = list(itertools.islice(DataLoader(config), 90))
    assert share_of_first(batches[:30]) == pytest.approx(0.5, abs=0.1)
    assert share_of_first(batches[33:60]) == pytest.approx(0.25, abs=0.1)
    assert share_of_first(batches[66:]) == 0.0


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_resume_is_exact_on_either_side_of_a_change(config: DataConfig, num_ranks: int) -> None:
    ranks = [DataLoader(config, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    states, batches = [], []
    for _ in range(70 // num_ranks):
        batches += [next(rank) for rank in ranks]
        states.append(json.loads(json.dumps(whole_state([rank.state_dict() for rank in ranks]))))
    for step in (10, 28, 33, 59, 62):
        resumed = DataLoader(config)
        resumed.load_state_dict(states[step // num_ranks])
        first = (step // num_ranks + 1) * num_ranks
        assert all(is_same(next(resumed), batch) for batch in batches[first : first + 6])


def test_a_curriculum_is_part_of_the_order(config: DataConfig) -> None:
    state = DataLoader(config).state_dict()
    plain = DataConfig(config.sources, **{key: getattr(config, key) for key in ("tokens_per_batch", "max_length")})
    with pytest.raises(DataError, match=r"data\.curriculum"):
        DataLoader(plain).load_state_dict(state)
    assert "curriculum" not in DataLoader(plain).state_dict()["order"], "as in states of earlier versions"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (((10, (1.0,)),), "one for each source; got 1 for 2 sources"),
        (((10, (1.0, 1.0)), (10, (0.0, 1.0))), r"must rise from one to the next; got \[10, 10\]"),
        (((10, (0.0, 0.0)),), "one above 0"),
        (((0, (1.0, 1.0)),), "1 or more, got 0"),
    ],
)
def test_what_is_no_curriculum(changes: tuple[tuple[int, tuple[float, ...]], ...], message: str) -> None:
    sources = (SourceConfig("sample:english"), SourceConfig("sample:code"))
    with pytest.raises(ConfigError, match=message):
        DataConfig(sources, curriculum=tuple(CurriculumConfig(*change) for change in changes))

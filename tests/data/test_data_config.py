"""What the configuration refuses, each in one line that names the key."""

from typing import Any

import pytest

from hnet_lm.data import DataConfig, FastaConfig, SourceConfig
from hnet_lm.errors import ConfigError

pytestmark = pytest.mark.usefixtures("without_type_checks")

SOURCE = SourceConfig("a.txt")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (SourceConfig, {"path": ""}, "data.sources.path is empty"),
        (SourceConfig, {"path": "a", "format": "csv"}, "data.sources.format: no data format 'csv'; there are text, .*"),
        (SourceConfig, {"path": "a", "weight": 0.0}, "data.sources.weight of 'a': must be a number above 0, got 0.0"),
        (SourceConfig, {"path": "a", "weight": float("nan")}, "data.sources.weight of 'a': must be a number above 0"),
        (SourceConfig, {"path": "a", "field": ""}, "data.sources.field is empty"),
        (FastaConfig, {"n_runs": "mask"}, "data.sources.fasta.n_runs: must be one of .keep., .drop., .split."),
        (FastaConfig, {"window": 0}, "data.sources.fasta.window: must be a whole number, 1 or more, got 0"),
        (DataConfig, {"sources": ()}, "data.sources is empty"),
        (DataConfig, {"sources": (SOURCE,), "on_error": "ignore"}, "data.on_error: must be one of .raise., .skip."),
        (DataConfig, {"sources": (SOURCE,), "streams": 0}, "data.streams: must be a whole number, 1 or more, got 0"),
        (DataConfig, {"sources": (SOURCE,), "num_workers": 1.5}, "data.num_workers: must be a whole number"),
        (DataConfig, {"sources": (SOURCE,), "tokens_per_batch": True}, "data.tokens_per_batch: must be a whole number"),
        (DataConfig, {"sources": (SOURCE,), "max_length": 9000}, r"data.max_length \(9000\) is above data.tokens_per"),
    ],
)
def test_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_a_list_of_sources_becomes_a_tuple() -> None:
    assert DataConfig([SOURCE]).sources == (SOURCE,)  # pyright: ignore[reportArgumentType]  a list is taken too

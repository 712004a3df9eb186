"""Records of a prompt and a completion: both are read, the completion alone is learned and measured."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from hnet_lm.data import IGNORE_INDEX, DataConfig, DataLoader, SourceConfig, documents, one_pass
from hnet_lm.errors import ConfigError, DataError

RECORDS = [("", "abc"), ("one two ", "three"), ("x" * 150, "y" * 70), ("question", "é"), ("only a prompt", "")]


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    lines = [json.dumps({"prompt": prompt, "completion": text}) + "\n" for prompt, text in RECORDS]
    (tmp_path / "tasks.jsonl").write_text("".join(lines))
    return SourceConfig(str(tmp_path / "tasks.jsonl"), field="completion", prompt_field="prompt")


def config_of(source: SourceConfig, max_length: int = 64) -> DataConfig:
    return DataConfig((source,), tokens_per_batch=100, max_length=max_length, shuffle_bytes=0)


@pytest.mark.parametrize("max_length", [1, 7, 64, 100])
def test_the_targets_are_the_completions_and_the_ends(source: SourceConfig, max_length: int) -> None:
    """However records are cut into sequences and batches; the inputs are those without a mask."""
    batches = list(one_pass(config_of(source, max_length), vocab_size=258))
    targets = torch.cat([batch.targets for batch in batches])
    wanted: list[int] = []
    for prompt, text in RECORDS:
        if text:
            wanted += [IGNORE_INDEX] * len(prompt.encode()) + [*text.encode(), 257]
    assert targets.tolist() == wanted
    num_completion = sum(len(text.encode()) for _, text in RECORDS)
    assert sum(batch.num_bytes for batch in batches) == num_completion
    inputs = [id for batch in batches for id in batch.input_ids.tolist()]
    assert inputs == [id for prompt, text in RECORDS if text for id in (256, *(prompt + text).encode())]


def test_a_shuffled_loader_masks_the_same_and_resumes(source: SourceConfig) -> None:
    config = DataConfig((source,), tokens_per_batch=50, max_length=20, shuffle_bytes=400)
    with DataLoader(config) as loader:
        batches = list(itertools.islice(loader, 12))
    for batch in batches:
        counted = batch.targets != IGNORE_INDEX
        assert int((counted & (batch.targets != 255)).sum()) == batch.num_bytes
        assert set(batch.targets[counted].tolist()) <= {*b"abcthreey", *"é".encode(), 255}
    with DataLoader(config) as loader:
        list(itertools.islice(loader, 5))
        state = json.loads(json.dumps(loader.state_dict()))
    with DataLoader(config) as resumed:
        resumed.load_state_dict(state)
        assert all(next(resumed).targets.equal(batch.targets) for batch in batches[5:])


def test_documents_say_how_much_is_prompt(source: SourceConfig) -> None:
    found = [(d.data[: d.num_prompt].decode(), d.data[d.num_prompt :].decode()) for d in documents(config_of(source))]
    assert found == RECORDS[:4]


def test_what_is_missing_is_said(source: SourceConfig, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"completion": "x"}\n')
    with pytest.raises(DataError, match=r"tasks\.jsonl:1: no field 'prompt'; the record has 'completion'"):
        list(documents(config_of(source)))
    with pytest.raises(ConfigError, match=r"prompt_field: 'x' has 'a' as its field already"):
        SourceConfig("x", field="a", prompt_field="a")
    with pytest.raises(ConfigError, match=r"prompt_field: goes with models of bytes"):
        DataConfig((source,), tokenizer="tokenizer.json")

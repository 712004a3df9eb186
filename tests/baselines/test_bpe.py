"""The BPE baseline: tokens that say every byte, batches of tokens, exact bits per byte, and a run from start to end."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_models import SMALL
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, DataLoader, SourceConfig
from hnet_lm.data.byte_pairs import BytePairs, train_byte_pairs
from hnet_lm.data.tokenized import TokenizedLoader
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.evaluation import ByteScorer, CarriedState, Passage, SlidingWindow, TokenScorer, bits_per_byte
from hnet_lm.generation import generate
from hnet_lm.model import HNetLM
from hnet_lm.tables import from_table
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics

WORDS = "the cat sat on the mat and the dog saw the cat run to the barn with a hat".split()  # noqa: SIM905
TEXTS = [" ".join(WORDS[i % 7 :] * (i % 3 + 1)) + f" {i}.\n" for i in range(40)]
HARD = ["emoji 🤖🧑‍🚀 and naïve Καλημέρα 你好\r\n\t  x", "  two  spaces", "a", "\n\n"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_byte_pairs((text.encode() for text in TEXTS), 300, path)
    return path


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the manner of Llama: spaces as a letter, and bytes for what the vocabulary does not have."""
    path = tmp_path_factory.mktemp("fallback") / "tokenizer.json"
    tokenizer: Any = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer: Any = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    table = json.loads(tokenizer.to_str())
    table["added_tokens"] = [token for token in table["added_tokens"] if token["content"] == "<unk>"]
    path.write_text(json.dumps(table))
    return path


@pytest.fixture(params=["byte_level", "fallback"])
def tokenizer(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def token_config(vocab_size: int) -> HNetConfig:
    return HNetConfig.from_dict(
        {
            **SMALL,
            "arch_layout": ["m1t1"],
            "d_model": [32],
            "d_intermediate": [0],
            "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
            "vocab_size": vocab_size,
            "reads_tokens": True,
        }
    )


def token_model(pairs: BytePairs) -> HNetLM:
    torch.manual_seed(0)
    return HNetLM(token_config(pairs.vocab_size)).double()


def test_tokens_say_the_text(tokenizer: Path):
    pairs, reader = BytePairs(tokenizer), Tokenizer.from_file(str(tokenizer))
    for text in [*HARD, *TEXTS]:
        tokens = pairs.encode(text.encode())
        assert reader.decode(tokens.ids.tolist(), skip_special_tokens=False) == text
        assert tokens.ids.max() < pairs.vocab_size - 2
        assert (np.diff(tokens.starts) >= 0).all()
    assert len(pairs.encode(TEXTS[5].encode()).ids) < 0.6 * len(TEXTS[5])


def test_tokens_start_at_bytes(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    train_byte_pairs([b"the cat sat on the mat the cat"] * 10, 300, path)
    pairs = BytePairs(path)
    assert pairs.encode(b"the cat sat").starts.tolist() == [0, 3, 7]
    # the tokens of a character that has none of its own all count as its first byte
    assert np.unique(pairs.encode("é the 中 cat".encode()).starts).tolist() == [0, 2, 6, 7, 10]


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        BytePairs(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken\.json: not a tokenizer\.json"):
        BytePairs(tmp_path / "broken.json")


def test_bytes_that_are_not_utf8_have_tokens_of_their_own(tokenizer: Path):
    pairs = BytePairs(tokenizer)
    tokens = pairs.encode(b"the cat\xff\xfe sat\xc3")
    single = [pairs.encode_byte(value) for value in (0xFF, 0xFE, 0xC3)]
    assert len(set(single)) == 3
    assert [i for i in tokens.ids.tolist() if i in single] == single
    assert sorted({7, 8, 13} & set(tokens.starts.tolist())) == [7, 8, 13]
    assert len(pairs.encode(b"").ids) == 0


def test_tokenizers_that_cannot_say_every_text_are_refused(tmp_path: Path, byte_level: Path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match="no such file"):
        BytePairs(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer"):
        BytePairs(path)
    words: Any = Tokenizer(models.WordLevel({"the": 0, "?": 1}, unk_token="?"))
    words.save(str(path))
    with pytest.raises(DataError, match="no tokens for single bytes"):
        BytePairs(path)
    composing: Any = Tokenizer.from_file(str(byte_level))
    composing.normalizer = normalizers.NFKC()
    composing.save(str(path))
    with pytest.raises(DataError, match="changes the text"):
        BytePairs(path)
    with pytest.raises(DataError, match="257 tokens or more"):
        train_byte_pairs([b"abc"], 100, path)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a space in front": lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "a space in front, taken away again": lambda t: (
        setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        setattr(t, "decoder", decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])),
    ),
    "spaces at the ends taken away": lambda t: setattr(t, "normalizer", normalizers.Strip()),
    "a special token that takes the space before it": lambda t: t.add_special_tokens([AddedToken("<m>", lstrip=True)]),
    "lower case": lambda t: setattr(t, "normalizer", normalizers.Lowercase()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tokenizers_that_change_a_text_are_refused_wherever_they_change_it(
    tmp_path: Path, byte_level: Path, change: str
):
    tokenizer: Any = Tokenizer.from_file(str(byte_level))
    CHANGES[change](tokenizer)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(DataError, match=r"tokenizer.json: the tokenizer changes the text"):
        BytePairs(path)


def test_a_truncation_that_the_file_asks_for_loses_nothing(tmp_path: Path, byte_level: Path):
    tokenizer: Any = Tokenizer.from_file(str(byte_level))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + tokenizer.to_str().encode())  # and a byte-order mark
    text = TEXTS[0].encode()
    assert BytePairs(path).encode(text).ids.tolist() == BytePairs(byte_level).encode(text).ids.tolist()
    assert BytePairs(path).encode(text).starts.tolist() == BytePairs(byte_level).encode(text).starts.tolist()


def write_corpus(folder: Path) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, *HARD]))
    return path


def test_batches_of_tokens_hold_the_bytes_of_the_batches_of_bytes(tmp_path: Path, byte_level: Path):
    pairs = BytePairs(byte_level)
    source = SourceConfig(str(write_corpus(tmp_path)))
    shared: dict[str, Any] = {"tokens_per_batch": 200, "max_length": 64, "shuffle_bytes": 3000}
    plain = DataLoader(DataConfig((source,), **shared), vocab_size=258)
    config = DataConfig((source,), tokenizer=str(byte_level), **shared)
    tokenized = TokenizedLoader(config, vocab_size=pairs.vocab_size)
    bos, eos = pairs.vocab_size - 2, pairs.vocab_size - 1
    saved = None
    for step in range(6):
        ours, theirs = next(tokenized), next(plain)
        assert ours.num_bytes == theirs.num_bytes
        assert len(ours.targets) < 0.8 * len(theirs.targets)
        assert ours.sequences.num_positions == len(ours.input_ids)
        spans = zip(
            ours.sequences.cu_seqlens.unfold(0, 2, 1).tolist(),
            theirs.sequences.cu_seqlens.unfold(0, 2, 1).tolist(),
            strict=True,
        )
        for (a, b), (c, d) in spans:
            tokens = [*ours.input_ids[a:b].tolist(), int(ours.targets[b - 1])]
            assert tokens[1:] == ours.targets[a:b].tolist()
            values = [*theirs.input_ids[c:d].tolist(), int(theirs.targets[d - 1])]
            assert (tokens[0] == bos) == (values[0] == 256)
            assert (tokens[-1] == eos) == (values[-1] == 257)
            text = bytes(value for value in values[1:] if value < 256)
            assert [t for t in tokens[1:] if t != eos] == pairs.encode(text).ids.tolist()
        if step == 2:
            saved = tokenized.state_dict()
    assert saved is not None
    again = TokenizedLoader(config, vocab_size=pairs.vocab_size)
    again.load_state_dict(saved)
    first = next(again)
    fresh = TokenizedLoader(config, vocab_size=pairs.vocab_size)
    assert torch.equal(first.targets, [next(fresh).targets for _ in range(4)][3])
    with pytest.raises(ConfigError, match=f"the model has 300, but .* has {pairs.vocab_size}"):
        TokenizedLoader(config, vocab_size=300)


@torch.no_grad()
def slow_nats(model: HNetLM, pairs: BytePairs, text: str) -> float:
    """Token by token, each from a fresh pass over all before it."""
    ids = [pairs.vocab_size - 2, *pairs.encode(text.encode()).ids.tolist()]
    nats = 0.0
    for i in range(1, len(ids)):
        logits = model(torch.tensor(ids[:i])).logits[-1]
        nats -= float(logits.log_softmax(-1)[ids[i]])
    return nats


def test_bits_per_byte_is_the_sum_over_tokens_for_a_byte_of_the_text(tokenizer: Path):
    """Also of emoji, which the tokenizer has never seen; and the same in pieces of any size."""
    pairs = BytePairs(tokenizer)
    model = token_model(pairs)
    texts = [*HARD, TEXTS[4]]
    num_bytes = sum(len(text.encode()) for text in texts)
    slow = sum(slow_nats(model, pairs, text) for text in texts) / math.log(2) / num_bytes
    for context in (None, CarriedState(3), SlidingWindow(500, 500)):
        found = bits_per_byte(TokenScorer(model, pairs, context, call_bytes=29), {"": [t.encode() for t in texts]})
        assert found.num_bytes == num_bytes
        assert found.value == pytest.approx(slow, abs=1e-6)


def test_prompts_and_units(byte_level: Path):
    pairs = BytePairs(byte_level)
    model = token_model(pairs)
    passage = Passage(b" sat on the mat", b"the cat")
    (score,) = TokenScorer(model, pairs, unit_starts=True).score([passage])
    whole, before = (slow_nats(model, pairs, text) for text in ("the cat sat on the mat", "the cat"))
    assert -score.logprob == pytest.approx(whole - before, abs=1e-6)
    assert score.num_bytes == len(passage.data)
    assert score.unit_starts is not None
    assert score.unit_starts[0].tolist() == pairs.encode(passage.data).starts.tolist()


def test_models_of_tokens_and_of_bytes_are_not_confused(byte_level: Path):
    pairs = BytePairs(byte_level)
    model = token_model(pairs)
    with pytest.raises(ConfigError, match="reads tokens of a tokenizer, not bytes"):
        list(ByteScorer(model).score([Passage(b"text")]))
    with pytest.raises(ConfigError, match="reads tokens of a tokenizer, not bytes"):
        generate(model, ["text"], max_new_bytes=3)
    with pytest.raises(ConfigError, match="the tokenizer is not the model's"):
        TokenScorer(HNetLM(token_config(400)), pairs)
    with pytest.raises(ConfigError, match="a chunker that looks at bytes"):
        HNetConfig.from_dict({**SMALL, "chunkers": [{"name": "space"}], "reads_tokens": True})


def run_config(folder: Path, tokenizer: Path, **changes: Any) -> RunConfig:
    pairs = BytePairs(tokenizer)
    model, corpus = folder / "model.json", write_corpus(folder)
    model.write_text(json.dumps(token_config(pairs.vocab_size).to_dict()))
    source = {"path": str(corpus)}
    table = {
        "run": {"directory": str(folder / "run"), "num_steps": 8, "precision": "float32"},
        "model": {"config": str(model)},
        "data": {"sources": [source], "tokens_per_batch": 256, "max_length": 128, "tokenizer": str(tokenizer)},
        "validation": {"sources": [source], "max_bytes": 300},
        "logging": {"every": 1},
        "optimizer": {"lr": 3e-3},
    }
    return from_table(RunConfig, table | changes)


def test_it_trains_with_the_same_loop(tmp_path: Path, byte_level: Path):
    config = run_config(tmp_path, byte_level)
    train(config)
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    updates = [record for record in records if "loss" in record]
    assert updates[-1]["loss"] < updates[0]["loss"]
    for record in updates:  # a nat a token is fewer bits a byte than a bit a token
        assert record["bits_per_byte"] < 0.8 * record["loss"] / math.log(2)
    pairs = BytePairs(tmp_path / "run" / "tokenizer.json")
    model = checkpoint.load(tmp_path / "run")
    texts = [(text.encode()) for text in [*TEXTS, *HARD]]
    taken, room = [], 300
    for text in texts:
        taken.append(text[:room])
        room -= len(text)
        if room <= 0:
            break
    measured = bits_per_byte(TokenScorer(model, pairs), {"": taken})
    assert records[-1]["validation/bits_per_byte"] == pytest.approx(measured.value, rel=1e-5)
    assert "sample" not in records[-1]


def test_tokens_need_a_model_of_tokens(tmp_path: Path, byte_level: Path):
    config = run_config(tmp_path, byte_level)
    Path(config.model.config).write_text(json.dumps({**SMALL}))
    with pytest.raises(ConfigError, match="tokenizer: goes with a model that reads tokens"):
        train(from_table(RunConfig, {**_table(config), "loss": {"target_ratios": [3.0]}}))


def _table(config: RunConfig) -> dict[str, Any]:
    return {
        "run": {"directory": config.run.directory, "num_steps": 2},
        "model": {"config": config.model.config},
        "data": {"sources": [{"path": config.data.sources[0].path}], "tokenizer": config.data.tokenizer},
    }

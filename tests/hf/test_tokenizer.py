"""Bytes as transformers' tokens: nothing is lost, nothing typed is special, and what no text holds is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, TextIteratorStreamer

from hnet_lm.errors import UserError
from hnet_lm.hf import HNetLMConfig, HNetLMTokenizer

TEXTS = ["", "plain", "  spaces \n", "天地 🤖 é", "<bos> and <eos>", "\x00\x7f", "a\r\nb"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("num_ids", [256, 258])
def test_a_text_is_its_bytes_behind_bos(text: str, num_ids: int) -> None:
    tokenizer = HNetLMTokenizer(num_ids=num_ids)
    ids: Any = tokenizer(text).input_ids
    assert ids == [num_ids - 2, *text.encode()]
    assert tokenizer(text, add_special_tokens=False).input_ids == list(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode(ids) == "<bos>" + text
    assert tokenizer.to_bytes([*ids, num_ids - 1]) == text.encode()


def test_the_vocabulary_is_the_models() -> None:
    tokenizer = HNetLMTokenizer()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (254, 255, 255)
    assert len(tokenizer) == tokenizer.vocab_size == 256
    assert len(HNetLMTokenizer(num_ids=258)) == 258
    assert sorted(tokenizer.get_vocab().values()) == list(range(256))
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(list(range(256)))) == list(range(256))
    with pytest.raises(UserError, match="256 ids"):
        HNetLMTokenizer(num_ids=300)


def test_batches_are_padded_on_the_left_and_cut_as_asked() -> None:
    tokenizer = HNetLMTokenizer(add_eos_token=True)
    found: Any = tokenizer(["abc", "a"], padding=True, return_special_tokens_mask=True)
    assert found["input_ids"] == [[254, 97, 98, 99, 255], [255, 255, 254, 97, 255]]
    assert found["attention_mask"] == [[1] * 5, [0, 0, 1, 1, 1]]
    assert found["special_tokens_mask"][0] == [1, 0, 0, 0, 1]
    assert tokenizer("abcdef", truncation=True, max_length=3).input_ids == [254, 97, 255]


def test_bytes_that_are_no_text() -> None:
    escaped = b"\x80\xc3".decode("utf-8", "surrogateescape")
    assert HNetLMTokenizer()(escaped).input_ids == [254, 0x80, 0xC3]
    any_bytes = HNetLMTokenizer(num_ids=258)
    ids: Any = any_bytes(b"\xfe\xff".decode("utf-8", "surrogateescape")).input_ids
    assert any_bytes.to_bytes(ids) == b"\xfe\xff"
    assert any_bytes.decode(ids[1:]) == "\ufffd\ufffd"
    with pytest.raises(UserError, match="0xfe, which this model reads as the start or end"):
        HNetLMTokenizer()(b"\xfe".decode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"character 1 is the lone surrogate U\+D800"):
        HNetLMTokenizer()("a\ud800")


def test_it_is_found_by_the_kind_of_model(tmp_path: Path, tokenizer: HNetLMTokenizer) -> None:
    HNetLMTokenizer(num_ids=258).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, HNetLMTokenizer)
    assert (loaded.num_ids, loaded.padding_side, len(loaded)) == (258, "left", 258)
    assert HNetLMConfig.model_type == "hnet_lm"


def test_a_stream_shows_whole_characters(tokenizer: HNetLMTokenizer) -> None:
    streamer = TextIteratorStreamer(tokenizer)
    for id in "天 é ok".encode():
        streamer.put(torch.tensor([id]))
    streamer.end()
    assert "".join(streamer) == "天 é ok"

"""Models of tokens: text goes in, tokens are chosen, text comes out."""

from pathlib import Path

import pytest
import torch

from hnet_lm.data.byte_pairs import BytePairs
from hnet_lm.errors import ConfigError
from hnet_lm.generation import Engine, Event, Request, RequestError, SamplingParams, generate, score, stream, utf8
from hnet_lm.generation.vocabulary import TokenVocabulary
from hnet_lm.model import HNetLM
from token_models import small_token_model, small_tokenizer

PROMPT = "the cat "


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> BytePairs:
    return small_tokenizer(tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def model(pairs: BytePairs) -> HNetLM:
    return small_token_model(pairs)


def greedy_ids(model: HNetLM, pairs: BytePairs, prompt: bytes, num_bytes: int) -> list[int]:
    """The likeliest tokens one after the other, the whole text read anew for each; the end may not come."""
    ids = [model.config.bos_id, *pairs.encode(prompt).ids.tolist()]
    start, said = len(ids), 0
    while said < num_bytes:
        logits = model(torch.tensor(ids)).logits[-1, : pairs.num_tokens]
        ids.append(int(logits.argmax()))
        said += len(pairs.token_bytes[ids[-1]])
    return ids[start:]


def run(model: HNetLM, pairs: BytePairs, request: Request) -> list[Event]:
    engine = Engine(model, tokenizer=pairs)
    engine.submit(request)
    events = []
    while engine.has_work:
        events += engine.step()
    return events


def test_greedy_text_is_that_of_the_likeliest_tokens(model: HNetLM, pairs: BytePairs):
    ids = greedy_ids(model, pairs, PROMPT.encode(), 40)
    expected = b"".join(pairs.token_bytes[id] for id in ids)
    assert max(len(pairs.token_bytes[id]) for id in ids) > 1
    for num_bytes in (1, 2, 3, 40):  # of a token that is longer than the room its beginning comes
        options = {"max_new_bytes": num_bytes, "temperature": 0.0, "ignore_eos": True, "tokenizer": pairs}
        (found,) = generate(model, [PROMPT], return_bytes=True, **options)
        assert found == expected[:num_bytes]


def test_streams_whole_characters_and_the_same_text(model: HNetLM, pairs: BytePairs):
    options = {"max_new_bytes": 60, "seed": 3, "tokenizer": pairs}
    (whole,) = generate(model, [PROMPT], **options)
    pieces = list(stream(model, PROMPT, **options))
    assert "".join(pieces) == whole
    assert len(pieces) > 5


@pytest.mark.parametrize("seed", range(4))
def test_valid_utf8(model: HNetLM, pairs: BytePairs, seed: int):
    for num_bytes in (1, 2, 5, 30):
        options = {"max_new_bytes": num_bytes, "temperature": 3.0, "valid_utf8": True, "ignore_eos": True}
        (found,) = generate(model, ["你"], return_bytes=True, seed=seed, tokenizer=pairs, **options)
        found.decode("utf-8")
        assert len(found) == num_bytes


def test_valid_ids_are_those_whose_bytes_may_follow(model: HNetLM, pairs: BytePairs):
    vocabulary = TokenVocabulary(model.config, pairs)

    def is_valid(state: int, room: int, data: bytes) -> bool:
        can_end = room >= utf8.BYTES_TO_COME[state]
        for byte in data:
            state = utf8.advance(state, byte)
            if state == utf8.REJECT:
                return False
        return 0 < len(data) <= room - (utf8.BYTES_TO_COME[state] if can_end else 0)

    for room in (1, 2, 3, 50):
        valid = vocabulary.valid(torch.arange(8), torch.tensor([room] * 8))
        for state in range(8):
            expected = [is_valid(state, room, vocabulary.bytes_of(id)) for id in range(vocabulary.size)]
            assert valid[state].tolist() == expected


def test_log_probabilities_are_of_tokens(model: HNetLM, pairs: BytePairs):
    params = SamplingParams(max_new_bytes=30, seed=1, logprobs=2, ignore_eos=True)
    events = run(model, pairs, Request(PROMPT.encode(), params, prompt_logprobs=True))
    data, found = b"".join(e.data for e in events), [item for e in events for item in e.logprobs]
    prompt = [item for e in events for item in e.prompt_logprobs]
    given = pairs.encode(PROMPT.encode()).ids.tolist()
    assert [item.byte for item in prompt] == given
    assert b"".join(pairs.token_bytes[item.byte] for item in found)[: len(data)] == data
    ids = [model.config.bos_id, *given, *(item.byte for item in found)]
    logprobs = model(torch.tensor(ids)).logits.double().log_softmax(-1)
    for i, item in enumerate([*prompt, *found]):
        assert item.logprob == pytest.approx(float(logprobs[i, ids[i + 1]]), abs=1e-4)
    assert all(len(item.top) == 2 for item in found)


def test_a_stop_string_may_be_a_part_of_a_token(model: HNetLM, pairs: BytePairs):
    options = {"max_new_bytes": 60, "temperature": 0.0, "ignore_eos": True, "tokenizer": pairs}
    (whole,) = generate(model, [PROMPT], return_bytes=True, **options)
    ids = greedy_ids(model, pairs, PROMPT.encode(), 60)
    long = next(pairs.token_bytes[id] for id in ids if len(pairs.token_bytes[id]) > 1)
    stop = long[1:2]
    (cut,) = generate(model, [PROMPT], return_bytes=True, stop=(stop,), **options)
    assert cut == whole[: whole.index(stop)]


def test_what_stands_before_an_empty_prompt_is_not_shown(model: HNetLM, pairs: BytePairs):
    """Of tokenizers that put a space in front of a text, as Llama's."""

    class WithPrefix:
        num_tokens, vocab_size = pairs.num_tokens, pairs.vocab_size
        prefix = b"t"
        token_bytes = tuple(b"t" + said[1:] if said else b"" for said in pairs.token_bytes)
        encode = pairs.encode

    options = {"max_new_bytes": 20, "temperature": 0.0, "ignore_eos": True}
    (found,) = generate(model, [""], return_bytes=True, tokenizer=WithPrefix(), **options)
    ids = greedy_ids(model, pairs, b"", 21)
    assert found == b"".join(WithPrefix.token_bytes[id] for id in ids)[1:21]


def test_models_and_tokenizers_must_go_together(model: HNetLM, pairs: BytePairs, tmp_path: Path):
    with pytest.raises(ConfigError, match="reads tokens of a tokenizer, not bytes: give it"):
        generate(model, ["text"])
    with pytest.raises(ConfigError, match="the tokenizer is not the model's: it has 282 entries"):
        generate(model, ["text"], tokenizer=small_tokenizer(tmp_path, 280))
    with pytest.raises(RequestError, match="score takes a model of bytes"):
        score(model, ["a"], ["b"])

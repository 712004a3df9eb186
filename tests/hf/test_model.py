"""The model as transformers calls it: padded batches, losses, caches, and `generate` in all its ways."""

from typing import Any

import pytest
import torch
from hf_models import LAYOUTS, tiny
from torch import Tensor
from transformers import DynamicCache, TextStreamer, pipeline

import hnet_lm
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.hf import HNetLMConfig, HNetLMForCausalLM, HNetLMTokenizer, StateCache
from hnet_lm.losses import next_byte_loss, ratio_loss
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences

PROMPTS = ["Once upon a time", "ab", "天地玄黃"]


def batch(tokenizer: HNetLMTokenizer, side: str = "left") -> Any:
    return tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side=side)


def test_the_model_is_wrapped_and_not_copied(model: HNetLMForCausalLM, plain: HNetLM) -> None:
    assert model.model is plain
    assert not model.training
    assert model.config.architecture == plain.config
    assert model.config.vocab_size == 256
    assert model.config.hidden_size == 32
    assert {name.removeprefix("model.") for name, _ in model.named_parameters()} == set(plain.state_dict())


def test_a_new_model_is_drawn_as_ours_is(plain: HNetLM) -> None:
    torch.manual_seed(3)
    new = HNetLMForCausalLM(HNetLMConfig.of(plain.config))
    torch.manual_seed(3)
    expected = HNetLM(plain.config)
    assert all(torch.equal(a, b) for a, b in zip(new.model.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_count(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer, side: str) -> None:
    inputs = batch(tokenizer, side)
    out = model(**inputs)
    for row, prompt in enumerate(PROMPTS):
        alone = model(**tokenizer(prompt, return_tensors="pt"))
        mask = inputs["attention_mask"][row].bool()
        torch.testing.assert_close(out.logits[row][mask], alone.logits[0], rtol=0, atol=1e-5)
        assert not out.logits[row][~mask].any()
        for padded, single in zip(out.routings, alone.routings, strict=True):
            valid = padded.valid[row]
            assert torch.equal(padded.is_boundary[row][valid], single.is_boundary[0])


def test_one_row_of_several_sequences(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    ids = [torch.tensor(tokenizer(prompt).input_ids) for prompt in PROMPTS]
    positions = torch.cat([torch.arange(len(row)) for row in ids])
    out = model(torch.cat(ids)[None], position_ids=positions[None])
    alone = torch.cat([model(row[None]).logits[0] for row in ids])
    torch.testing.assert_close(out.logits[0], alone, rtol=0, atol=1e-5)
    assert out.cache is None
    with pytest.raises(ValueError, match="position_ids"):
        model(ids[0][None], position_ids=torch.arange(3, 3 + len(ids[0]))[None])


def expected_loss(plain: HNetLM, rows: list[Tensor], targets: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    packed = torch.cat(rows)
    out = plain(packed, Sequences.from_lengths([len(row) for row in rows]))
    wanted = torch.cat([torch.cat([row[1:], torch.tensor([-100])]) for row in rows])
    ratios = [ratio_loss(routing, n) for routing, n in zip(out.routings, targets, strict=True)]
    return next_byte_loss(out.logits, wanted), torch.stack(ratios).sum()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_is_that_of_training(
    model: HNetLMForCausalLM, plain: HNetLM, tokenizer: HNetLMTokenizer, side: str
) -> None:
    inputs = batch(tokenizer, side)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    out = model(**inputs, labels=labels)
    rows = [torch.tensor(tokenizer(prompt).input_ids) for prompt in PROMPTS]
    cross_entropy, ratios = expected_loss(plain, rows, (3.0, 3.0))
    torch.testing.assert_close(out.next_byte_loss, cross_entropy)
    torch.testing.assert_close(out.ratio_loss, ratios)
    torch.testing.assert_close(out.loss, cross_entropy + 0.03 * ratios)
    assert out.cache is None
    num_targets = sum(len(row) - 1 for row in rows)
    shared = model(**inputs, labels=labels, num_items_in_batch=4 * num_targets).loss
    torch.testing.assert_close(shared, out.loss / 4)


def test_labels_that_do_not_count(model: HNetLMForCausalLM, plain: HNetLM) -> None:
    ids = torch.arange(60, 80)[None]
    labels = ids.clone()
    labels[0, :10] = -100
    logits = plain(ids).logits[0]
    torch.testing.assert_close(model(ids, labels=labels).next_byte_loss, next_byte_loss(logits[9:-1], ids[0, 10:]))
    assert model(ids, labels=torch.full_like(ids, -100)).next_byte_loss == 0


def test_target_ratios_and_weight_are_the_configurations(plain: HNetLM) -> None:
    model = HNetLMForCausalLM.of_model(plain, target_ratios=[2.0, 5.0], ratio_loss_weight=0.5)
    ids = torch.arange(60, 80)
    cross_entropy, ratios = expected_loss(plain, [ids], (2.0, 5.0))
    torch.testing.assert_close(model(ids[None], labels=ids[None]).loss, cross_entropy + 0.5 * ratios)
    assert HNetLMConfig.of(tiny(["m1", ["T1"], "m1"]).config).target_ratios == [6.0]
    for wrong, words in (([3.0], "2 stages"), ([1.0, 3.0], "above 1")):
        with pytest.raises(ConfigError, match=words):
            HNetLMConfig.of(plain.config, target_ratios=wrong)


def test_a_model_that_no_stage_chunks_has_no_ratio_loss() -> None:
    model = HNetLMForCausalLM.of_model(tiny(LAYOUTS["isotropic"]))
    out = model(torch.arange(9)[None], labels=torch.arange(9)[None])
    assert out.ratio_loss == 0
    assert torch.equal(out.loss, out.next_byte_loss)


def test_calls_with_a_cache_go_on(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    inputs = batch(tokenizer)
    whole = model(**inputs, output_hidden_states=True)
    assert whole.hidden_states[0].shape == (*inputs["input_ids"].shape, 32)
    cache = StateCache()
    pieces = []
    for start, end in ((0, 9), (9, 10), (10, inputs["input_ids"].shape[1])):
        mask = inputs["attention_mask"][:, :end]
        out = model(inputs["input_ids"][:, start:end], attention_mask=mask, cache=cache)
        pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole.logits, rtol=0, atol=1e-4)
    assert cache.get_seq_length() == inputs["input_ids"].shape[1]
    kept = model(**inputs, logits_to_keep=2).logits
    assert torch.equal(kept, whole.logits[:, -2:])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_greedy_generation_equals_ours(tokenizer: HNetLMTokenizer, layout: str) -> None:
    plain = tiny(LAYOUTS[layout])
    out = HNetLMForCausalLM.of_model(plain).generate(**batch(tokenizer), max_new_tokens=12, do_sample=False)
    length = batch(tokenizer)["input_ids"].shape[1]
    written = [tokenizer.to_bytes(row[length:]) for row in out]
    assert written == hnet_lm.generate(plain, PROMPTS, max_new_bytes=12, temperature=0.0, return_bytes=True)
    assert all(len(text) == 12 for text in written)


def test_generation_stops_at_the_end_of_the_text(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    """The first prompt is continued by EOS for certain; the second goes on."""
    inputs = batch(tokenizer)
    hidden = model(**inputs, output_hidden_states=True).hidden_states[0]
    with torch.no_grad():
        model.model.lm_head.weight[255] = 4 * hidden[0, -1]
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    assert out[0].tolist() == [255] * out.shape[1]
    ours = hnet_lm.generate(model.model, PROMPTS, max_new_bytes=6, temperature=0.0, return_bytes=True)
    assert ours[0] == b""
    assert [tokenizer.to_bytes(row) for row in out] == ours


def test_sampling_and_a_prompt_in_pieces(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    options = {"max_new_tokens": 8, "do_sample": True, "top_p": 0.9, "temperature": 0.7}
    torch.manual_seed(1)
    first = model.generate(**batch(tokenizer), **options)
    torch.manual_seed(1)
    pieces = model.generate(**batch(tokenizer), **options, prefill_chunk_size=4)
    assert torch.equal(first, pieces)
    torch.manual_seed(2)
    assert not torch.equal(first, model.generate(**batch(tokenizer), **options))


def test_beams_reorder_the_state(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    options = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2, "do_sample": False}
    with_cache = model.generate(**batch(tokenizer), **options)
    assert torch.equal(with_cache, model.generate(**batch(tokenizer), **options, use_cache=False))
    assert len(with_cache) == 2 * len(PROMPTS)


def test_a_conversation_goes_on_from_its_cache(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    inputs = tokenizer("Once", return_tensors="pt")
    cache = StateCache()
    first = model.generate(**inputs, max_new_tokens=4, do_sample=False, cache=cache)
    assert cache.get_seq_length() == first.shape[1] - 1
    second = model.generate(
        first, attention_mask=torch.ones_like(first), max_new_tokens=4, do_sample=False, cache=cache
    )
    assert torch.equal(second, model.generate(**inputs, max_new_tokens=8, do_sample=False))


def test_a_streamer_and_a_pipeline(
    model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tokenizer("Once", return_tensors="pt")
    out = model.generate(
        **inputs, max_new_tokens=8, do_sample=False, streamer=TextStreamer(tokenizer, skip_prompt=True)
    )
    written = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])
    assert capsys.readouterr().out.strip("\n") == written.strip("\n")
    found: Any = pipeline("text-generation", model=model, tokenizer=tokenizer)(
        "Once", max_new_tokens=8, do_sample=False
    )
    assert found[0]["generated_text"] == "Once" + written


def test_what_generate_cannot_do_is_said(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> None:
    with pytest.raises(ValueError, match="padded on the left"):
        model.generate(**batch(tokenizer, "right"), max_new_tokens=2)
    with pytest.raises(ValueError, match="a state of its own"):
        model.generate(**batch(tokenizer), max_new_tokens=2, cache_implementation="static")
    with pytest.raises(ValueError, match="stateful"):
        model.generate(**tokenizer("a", return_tensors="pt"), max_new_tokens=2, assistant_model=model)
    with pytest.raises(ValueError, match=r"must be a hnet_lm\.hf\.StateCache, not DynamicCache"):
        model(torch.arange(3)[None], cache=DynamicCache())
    with pytest.raises(ValueError, match="not inputs_embeds"):
        model(inputs_embeds=torch.zeros(1, 2, 32))
    with pytest.raises(ValueError, match="vocabulary of this model is fixed"):
        model.resize_token_embeddings(300)
    with pytest.raises(ValueError, match="cannot be shortened"):
        StateCache().crop(1)


def test_weights_that_are_missing_are_an_error(model: HNetLMForCausalLM, tmp_path: Any) -> None:
    model.save_pretrained(tmp_path, state_dict={k: v for k, v in model.state_dict().items() if "lm_head" not in k})
    with pytest.raises(CheckpointError, match=r"has no weights for model.lm_head.weight, 1 in all"):
        HNetLMForCausalLM.from_pretrained(tmp_path)


def test_bfloat16_keeps_residual_projections(model: HNetLMForCausalLM, tmp_path: Any) -> None:
    model.save_pretrained(tmp_path)
    loaded = HNetLMForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    types = {name: parameter.dtype for name, parameter in loaded.named_parameters()}
    assert {dtype for name, dtype in types.items() if "residual_proj" in name} == {torch.float32}
    assert {dtype for name, dtype in types.items() if "residual_proj" not in name} == {torch.bfloat16}

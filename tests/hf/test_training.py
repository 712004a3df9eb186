"""transformers' Trainer trains the model with its ratio loss, and peft adapts it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_models import tiny
from transformers import DataCollatorForLanguageModeling, DataCollatorWithFlattening, Trainer, TrainingArguments

import hnet_lm
from hnet_lm.hf import HNetLMForCausalLM, HNetLMTokenizer

peft: Any = pytest.importorskip("peft")

TEXT = "It was the best of times, it was the worst of times."


@pytest.fixture
def small() -> HNetLMForCausalLM:
    return HNetLMForCausalLM.of_model(tiny(["m1", ["T1"], "m1"]), ratio_loss_weight=0.5)


def rows(tokenizer: HNetLMTokenizer) -> list[dict[str, Any]]:
    return [{"input_ids": tokenizer(TEXT[start:]).input_ids} for start in (0, 7, 20, 33)]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
        **{"max_steps": 8, "save_steps": 8, **options},
    )


def test_trainer_lowers_the_loss_and_its_checkpoint_loads(
    small: HNetLMForCausalLM, tokenizer: HNetLMTokenizer, tmp_path: Path
) -> None:
    data: Any = rows(tokenizer)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = Trainer(small, arguments(tmp_path), train_dataset=data, eval_dataset=data, data_collator=collator)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 0.3
    loaded = HNetLMForCausalLM.from_pretrained(tmp_path / "checkpoint-8")
    ids = torch.tensor([data[0]["input_ids"]])
    out, again = small.eval()(ids, labels=ids), loaded(ids, labels=ids)
    assert torch.equal(out.logits, again.logits)
    torch.testing.assert_close(again.loss, again.next_byte_loss + 0.5 * again.ratio_loss)
    assert torch.equal(hnet_lm.load(tmp_path / "checkpoint-8")(ids).logits, out.logits)


def test_accumulated_batches_train_as_one(tokenizer: HNetLMTokenizer, tmp_path: Path) -> None:
    """Of unequal numbers of targets, one sequence a batch; without the ratio loss, whose F is that of a batch."""
    trained = []
    for size, accumulated in ((4, 1), (1, 4)):
        model = HNetLMForCausalLM.of_model(tiny(["m1", ["T1"], "m1"]), ratio_loss_weight=0.0)
        options = {"max_steps": 1, "gradient_accumulation_steps": accumulated, "optim": "sgd", "max_grad_norm": 0.0}
        given = arguments(tmp_path, **options)
        given.per_device_train_batch_size = size
        data: Any = rows(tokenizer)
        Trainer(model, given, train_dataset=data, data_collator=DataCollatorWithFlattening()).train()
        trained.append(model)
    for (name, a), b in zip(trained[0].named_parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=name)


def test_lora_trains_generates_and_is_saved(
    small: HNetLMForCausalLM, tokenizer: HNetLMTokenizer, tmp_path: Path
) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["in_proj", "out_proj", "fc1", "fc2"])
    adapted = peft.get_peft_model(small, config)
    frozen = {name: p.clone() for name, p in adapted.named_parameters() if not p.requires_grad}
    data: Any = rows(tokenizer)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = Trainer(adapted, arguments(tmp_path), train_dataset=data, eval_dataset=data, data_collator=collator)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 0.1
    assert all(torch.equal(p, frozen[name]) for name, p in adapted.named_parameters() if name in frozen)
    adapted.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(
        HNetLMForCausalLM.of_model(tiny(["m1", ["T1"], "m1"]), ratio_loss_weight=0.5), tmp_path / "adapter"
    )
    inputs = tokenizer(["It was", "the"], return_tensors="pt", padding=True)
    written = adapted.eval().generate(**inputs, max_new_tokens=5, do_sample=False)
    assert torch.equal(again.eval().generate(**inputs, max_new_tokens=5, do_sample=False), written)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, again(**inputs).logits, rtol=0, atol=1e-4)

"""A saved model as a directory that transformers loads, with `import hnet_lm.hf` or with `trust_remote_code=True`."""

from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from hnet_lm.checkpoint import CONFIG, WEIGHTS, flush, replacing
from hnet_lm.errors import CheckpointError
from hnet_lm.hf.configuration import REMOTE_FILE
from hnet_lm.hf.modeling import HNetLMForCausalLM
from hnet_lm.hf.tokenization import HNetLMTokenizer
from hnet_lm.model import HNetLM
from hnet_lm.model_card import CARD, ModelCard, card_for

WRITTEN = (CONFIG, WEIGHTS, CARD, "generation_config.json", "tokenizer_config.json", f"{REMOTE_FILE}.py")


def export(
    model: HNetLM,
    directory: str | Path,
    *,
    target_ratios: Sequence[float] | None = None,
    ratio_loss_weight: float = 0.03,
    card: ModelCard | None = None,
) -> None:
    """Write model, byte tokenizer, generation config and card; an exported model that is there is replaced.

    `target_ratios`, one per stage that learns where to cut, and the weight are those of the ratio loss when
    transformers trains the model; None: the paper's. Raises CheckpointError, ConfigError; then nothing has changed.
    """
    directory = Path(directory)
    if model.config.reads_tokens:
        raise CheckpointError(
            f"{directory}: the model reads tokens, and only models of bytes are exported; one that `hnet-lm import` "
            "read is loaded by transformers as it was"
        )
    options = {"target_ratios": None if target_ratios is None else list(target_ratios)}
    wrapped = HNetLMForCausalLM.of_model(model, ratio_loss_weight=ratio_loss_weight, **options)
    with replacing(directory, WRITTEN) as partial:
        bar_was_on = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            wrapped.save_pretrained(partial, max_shard_size="1000TB")  # one file, which `hnet_lm.load` maps
        finally:
            if bar_was_on:
                logging.enable_progress_bar()
        HNetLMTokenizer(num_ids=model.config.vocab_size).save_pretrained(partial)
        (partial / CARD).write_bytes(card_for(directory, model.config, card, for_transformers=True))
        for file in partial.iterdir():
            flush(file)

"""Tiny random models of every family, as transformers saves them, with a tokenizer beside them."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from hnet_lm.data.byte_pairs import train_byte_pairs

NUM_TOKENS = 300
TEXT = b"the cat sat on the mat and the dog saw the cat; the hat was on the mat. " * 3

SIZES: dict[str, Any] = {
    **{"vocab_size": NUM_TOKENS + 5, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512},
    **{"bos_token_id": NUM_TOKENS, "eos_token_id": NUM_TOKENS + 1, "pad_token_id": None, "rms_norm_eps": 1e-3},
}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 64},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
YARN = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 32}
PLAIN = {"rope_type": "default", "rope_theta": 1000.0}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"rope_parameters": LLAMA3, "head_dim": 12}),
    "smollm2": ("LlamaConfig", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "mistral": ("MistralConfig", {"sliding_window": 7, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True, "rope_parameters": YARN}),
    "qwen2 windows": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
    "qwen3": ("Qwen3Config", {"head_dim": 12, "eos_token_id": [NUM_TOKENS + 1, NUM_TOKENS]}),
    "olmo2": ("Olmo2Config", {"bos_token_id": None}),
    "olmo3": (
        "Olmo3Config",
        {"sliding_window": 6, "rope_parameters": {"full_attention": YARN, "sliding_attention": PLAIN}},
    ),
    "smollm3": ("SmolLM3Config", {"no_rope_layer_interval": 2, "tie_word_embeddings": True}),
}
"""By name: the class of the config, and what it has beside `SIZES`."""


def small_transformer(name: str) -> Any:
    """Its weights are drawn so that every part matters, biases and norms too."""
    kind, more = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, kind)(**SIZES | more)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter_name.endswith("norm.weight"):
                    parameter.uniform_(0.5, 1.5)
                elif parameter.dim() == 1:
                    parameter.normal_()
                else:
                    parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model


def save_small(name: str, directory: Path, **options: Any) -> Any:
    """Save the model and its tokenizer; returns the model."""
    model = small_transformer(name)
    model.save_pretrained(directory, **options)
    train_byte_pairs([TEXT], NUM_TOKENS, directory / "tokenizer.json")
    return model

"""A small model of tokens with its tokenizer, for the tests of what is done with one."""

from pathlib import Path

import torch

from hnet_lm.checkpoint import save
from hnet_lm.config import HNetConfig
from hnet_lm.data.byte_pairs import BytePairs, train_byte_pairs
from hnet_lm.model import HNetLM

TEXT = "the cat sat on the mat and the dog saw the cat; é, 你好 and 你好. " * 3


def small_tokenizer(directory: Path, num_tokens: int = 290) -> BytePairs:
    path = directory / "tokenizer.json"
    train_byte_pairs([TEXT.encode()], num_tokens, path)
    return BytePairs(path)


def small_token_model(pairs: BytePairs, d_model: int = 32) -> HNetLM:
    """The same weights at every call, under which probabilities are uneven."""
    attention = {"num_heads": [2], "rotary_emb_dim": [d_model // 4], "window_size": [-1]}
    sizes = {"arch_layout": ["T1"], "d_model": [d_model], "d_intermediate": [32], "vocab_size": pairs.vocab_size}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HNetLM(HNetConfig.from_dict({**sizes, "attn_cfg": attention, "reads_tokens": True}))
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=2 * parameter.shape[1] ** -0.5)
    return model.requires_grad_(False)


def save_token_model(directory: Path, d_model: int = 32) -> tuple[HNetLM, BytePairs]:
    """As a directory that `load` and `load_tokenizer` read."""
    directory.mkdir(parents=True)
    pairs = small_tokenizer(directory)
    model = small_token_model(pairs, d_model)
    tokenizer = directory / "tokenizer.json"
    save(model, directory, beside={tokenizer.name: tokenizer.read_bytes()})
    return model, pairs

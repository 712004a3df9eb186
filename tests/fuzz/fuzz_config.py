"""Architecture files (JSON): a configuration that writes itself as it was read, or a refusal that names the file."""

import json

from refusals import file_of, read_or_refused

from hnet_lm.config import HNetConfig

_PLAIN = {
    "arch_layout": ["m1", ["T1"], "m1"],
    "d_model": [64, 64],
    "d_intermediate": [0, 96],
    "vocab_size": 256,
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [15, -1]},
    "tie_embeddings": False,
}
_BYTE_MODEL = _PLAIN | {
    "arch_layout": ["T1"],
    "d_model": [32],
    "d_intermediate": [48],
    "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
}
SEEDS = tuple(
    json.dumps(config).encode()
    for config in (
        _PLAIN,
        _BYTE_MODEL,
        _PLAIN | {"chunkers": [{"name": "pool", "stride": 4}], "spacebyte": True},
        _PLAIN | {"chunkers": [{"name": "entropy", "threshold": 1.5}], "byte_model": _BYTE_MODEL},
        _PLAIN | {"chunkers": [{"name": "words"}]},
    )
)


def check(data: bytes) -> None:
    config = read_or_refused(lambda: HNetConfig.load(file_of(data, "config.json")))
    if config is not None:
        assert HNetConfig.from_dict(config.to_dict()) == config

"""Decoding: how fast one and many streams go on, what bounds one, what `hnet_lm.generate` gives, what a stream holds.

The bench model, also with smaller weights, and Mamba-2 alone beside transformers' Mamba2 with equal layers; all timings
of as many streams are taken in turn.
"""

from collections.abc import Callable
from typing import Any

import torch

from hnet_lm import generate
from hnet_lm.config import HNetConfig
from hnet_lm.generation.rounded_weights import with_weights
from hnet_lm.model import HNetLM
from hnet_lm.model.hnet import HNetState
from hnet_lm.sequences import Sequences
from speed.bench_model import english, make_model, mamba_config
from speed.decoder import Decoder
from speed.peer import PeerDecoder, make_peer
from speed.settings import Settings
from speed.timing import in_turn
from speed.weights_read import weight_bytes_read


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    config = HNetConfig.load(settings.model)
    text = english(max(settings.decoding.contexts), device)
    model = make_model(config, text, Sequences.from_lengths([len(text)], device=device)).eval()
    return {
        "streams": _streams(model, settings, device),
        "engine": _engine(model, settings, device),
        "state": [_state(model, text[:context]) for context in settings.decoding.contexts],
    }


def _streams(model: HNetLM, settings: Settings, device: torch.device) -> list[dict[str, Any]]:
    """A row for every model and number of streams."""
    sizes = settings.decoding
    mamba = mamba_config(model.config, settings.mamba)
    torch.manual_seed(0)
    ours = HNetLM(mamba).to(device).eval()
    peer = make_peer(mamba, settings.mamba.peer_chunk_sizes[0], device)
    smaller = {f"bench, {weights}": with_weights(model, weights) for weights in sizes.smaller_weights}
    length = sizes.prompt_bytes + (settings.rounds + 1) * sizes.num_steps
    rows = []
    for num_streams in sorted({*sizes.streams, *sizes.mamba_streams}):
        texts = english(num_streams * length, device).view(num_streams, length)
        decoders: dict[str, Callable[[], None]] = {}
        if num_streams in sizes.streams:
            for name, one in {"bench": model, **smaller}.items():
                decoders[name] = Decoder(one, texts, sizes.prompt_bytes, sizes.num_steps)
        if num_streams in sizes.mamba_streams:
            decoders["mamba"] = Decoder(ours, texts, sizes.prompt_bytes, sizes.num_steps)
            decoders["transformers"] = PeerDecoder(peer, texts, sizes.prompt_bytes, sizes.num_steps)
        timings = in_turn(decoders, settings.rounds, device)
        for name, decoder in decoders.items():
            row = {"model": name, "streams": num_streams, "steps": sizes.num_steps, **timings[name]}
            if isinstance(decoder, Decoder):
                row["bytes_per_chunk"] = decoder.bytes_per_chunk
                row["weight_bytes_read"] = weight_bytes_read(decoder.model, decoder.bytes_per_chunk)
            rows.append(row)
    return rows


def _engine(model: HNetLM, settings: Settings, device: torch.device) -> dict[str, Any]:
    """One prompt through the engine, with its reading, sampled; chunks are those of the random text that comes."""
    sizes = settings.decoding
    prompt = bytes(english(sizes.prompt_bytes, device).tolist())
    written: list[bytes] = []

    def run() -> None:
        options = {"max_new_bytes": sizes.engine_bytes, "seed": 0, "ignore_eos": True}
        written[:] = generate(model, [prompt], return_bytes=True, **options)

    timing = in_turn({"engine": run}, settings.rounds, device)["engine"]
    ids = torch.tensor(list(prompt + written[0]), device=device)
    with torch.inference_mode():
        num_chunks = int(model(ids).routings[0].is_boundary.sum())
    return {"bytes": len(written[0]), "bytes_per_chunk": [len(ids) / num_chunks], **timing}


def _state(model: HNetLM, ids: torch.Tensor) -> dict[str, Any]:
    """Bytes that one stream's state takes after so much text; those of the main network grow with global attention."""
    with torch.inference_mode():
        state = model(ids, None, model.new_state(1)).state
    assert isinstance(state, HNetState)
    return {"context": len(ids), "bytes": state.num_bytes, "main_network_bytes": state.main_network.num_bytes}

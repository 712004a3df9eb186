"""The models of the speed benchmark are what it says: chunks of five bytes, equal work, equal layers, weights read."""

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from speed.bench_model import calibrate, english, english_batch, make_model, mamba_config, windowed
from speed.decoder import Decoder
from speed.peer import PeerDecoder, make_peer
from speed.settings import QUICK
from speed.update_step import UpdateStep
from speed.weights_read import weight_bytes_read

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config() -> HNetConfig:
    return HNetConfig.load(QUICK.model)


@pytest.mark.parametrize("bytes_per_chunk", [3.0, 5.0])
def test_a_router_cuts_as_often_as_wanted(config: HNetConfig, bytes_per_chunk: float):
    batch = english_batch(2, 512)
    model = HNetLM(config)
    reached = calibrate(model, batch.input_ids, batch.sequences, bytes_per_chunk)
    (routing,) = model(batch.input_ids, batch.sequences).routings
    assert 1024 / int(routing.is_boundary.sum()) == reached == pytest.approx(bytes_per_chunk, rel=0.02)


def test_a_router_that_cannot_be_set_is_an_error(config: HNetConfig):
    batch = english_batch(1, 64)
    with pytest.raises(RuntimeError, match="cannot be set to"):
        calibrate(HNetLM(config), batch.input_ids, batch.sequences, 0.9)


def test_every_step_does_the_same_work(config: HNetConfig):
    batch = english_batch(2, 256)
    step = UpdateStep(make_model(config, batch.input_ids, batch.sequences), batch)
    before = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    step()
    first = step.bytes_per_chunk
    step()
    assert step.bytes_per_chunk == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.model.state_dict().items())
    assert all(parameter.grad is not None for parameter in step.model.parameters())


def test_the_peer_has_equal_layers_and_decodes_the_same_number_of_bytes(config: HNetConfig):
    mamba = mamba_config(config, QUICK.mamba)
    ours, peer = HNetLM(mamba), make_peer(mamba, 64, CPU)
    sizes = [sorted(tuple(parameter.shape) for parameter in model.parameters()) for model in (ours, peer)]
    assert sizes[0] == sizes[1]
    texts = english(2 * 12, CPU).view(2, 12)
    decoders = Decoder(ours, texts, 8, 2), PeerDecoder(peer, texts, 8, 2)
    for decoder in decoders:
        decoder()
        decoder()
        assert decoder.position == texts.shape[1]


def test_a_windowed_model_is_the_same_but_for_its_inner_window(config: HNetConfig):
    before, after = config.to_dict(), windowed(config).to_dict()
    assert before["attn_cfg"].pop("window_size") == [63, -1]
    assert after["attn_cfg"].pop("window_size") == [63, 63]
    assert before == after


def test_weights_that_a_byte_reads():
    """By hand: width 64 outside, 128 inside, one Mamba-2 block each side, one attention block with an MLP of 32."""
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["m1", ["T1"], "m1"],
            "d_model": [64, 128],
            "d_intermediate": [0, 32],
            "vocab_size": 256,
            "ssm_cfg": {"d_state": 16, "d_conv": 4, "expand": 1, "chunk_size": 64},
            "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [0, 0], "window_size": [-1, -1]},
        }
    )
    d, n, heads = 64, 16, 1
    conv = d + 2 * n
    mamba = d * (2 * d + 2 * n + heads) + 5 * conv + 3 * heads + d + d * d  # in_proj; taps, bias; dt, A, D; norm; out
    stack = d + mamba + d  # a block's norm, and the stack's
    head = 256 * d
    routing, residual = 2 * d * d, d * d + d
    outer = d + 2 * stack + routing + residual + head  # one row of the embedding
    wide = 128
    attention, mlp = 4 * wide * wide, 3 * wide * 32
    inner = (wide - d) + 2 * wide + attention + mlp + wide  # pad vector; norms; and the stack's norm
    assert weight_bytes_read(HNetLM(config), [5.0]) == pytest.approx(4 * (outer + inner / 5))
    assert weight_bytes_read(HNetLM(config).bfloat16(), [2.0]) == pytest.approx(2 * (outer + inner / 2))

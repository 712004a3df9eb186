"""transformers' Mamba2ForCausalLM with as many layers of the same sizes: what people would use instead on this machine.

It runs as its library runs it here (without its compiled kernels where they are not installed), with its own loss.
"""

import torch
from torch import Tensor, nn
from transformers import Mamba2Config, Mamba2ForCausalLM
from transformers.utils import logging

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.optimizer import OptimizerConfig

logging.set_verbosity_error()  # else it says in every run which kernels are not installed


def make_peer(config: HNetConfig, chunk_size: int, device: torch.device) -> Mamba2ForCausalLM:
    """Layers equal to those of a configuration of Mamba-2 blocks alone."""
    (stage,) = config.stages
    sizes = Mamba2Config(
        vocab_size=config.vocab_size,
        hidden_size=stage.d_model,
        state_size=config.mamba2.d_state,
        num_hidden_layers=int(str(stage.main_network).removeprefix("m")),
        expand=config.mamba2.expand,
        head_dim=MAMBA2_HEAD_DIM,
        num_heads=config.mamba2.expand * stage.d_model // MAMBA2_HEAD_DIM,
        n_groups=1,
        conv_kernel=config.mamba2.d_conv,
        chunk_size=chunk_size,
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_id,
        pad_token_id=config.eos_id,
    )
    torch.manual_seed(0)
    with device:
        return Mamba2ForCausalLM(sizes)


class PeerStep:
    """Calling it runs forward, backward, clipping and AdamW, at rate 0 as `UpdateStep` does."""

    def __init__(self, model: Mamba2ForCausalLM, ids: Tensor):
        """`ids` are (b, l)."""
        self.model = model.train()
        self._ids = ids
        self._precision = choose_precision("auto", ids.device)
        self._max_grad_norm = OptimizerConfig().max_grad_norm
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def __call__(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._ids.device.type, self._precision, enabled=self._precision != torch.float32):
            loss = self.model(input_ids=self._ids, labels=self._ids, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._max_grad_norm)
        self._optimizer.step()


class PeerDecoder:
    """Streams of it, read and continued as `decoder.Decoder` does with ours."""

    def __init__(self, model: Mamba2ForCausalLM, texts: Tensor, prompt_bytes: int, num_steps: int):
        self.model = model.eval()
        self._texts = texts
        self._num_steps = num_steps
        self.position = prompt_bytes
        with torch.inference_mode():
            self._cache = model(input_ids=texts[:, :prompt_bytes], use_cache=True).cache

    @torch.inference_mode()
    def __call__(self) -> None:
        for _ in range(self._num_steps):
            ids = self._texts[:, self.position : self.position + 1]
            out = self.model(input_ids=ids, cache=self._cache, use_cache=True)
            out.logits[:, -1].argmax(-1)
            self._cache = out.cache
            self.position += 1

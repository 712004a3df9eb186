"""Many streams decoded together at the level of the model: one call a byte, the likeliest next byte of each chosen.

What is read next is the text, not the byte chosen: a random model soon repeats one byte for ever, in which its router
would see no reason to cut, and decoding would look faster than on any text.
"""

import torch
from torch import Tensor

from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences


class Decoder:
    """The prompts are read on construction; calling it then reads `num_steps` bytes more of every stream."""

    def __init__(self, model: HNetLM, texts: Tensor, prompt_bytes: int, num_steps: int):
        """`texts` are (b, l) ids, long enough for all calls."""
        self.model = model
        self._texts = texts
        self._num_steps = num_steps
        self.position = prompt_bytes
        self._lengths = [1] * len(texts)
        self.num_bytes = 0
        self.num_chunks = 0
        with torch.inference_mode():
            seqs = Sequences.from_lengths([prompt_bytes] * len(texts), device=texts.device)
            prompts = texts[:, :prompt_bytes].flatten()
            self._state = model(prompts, seqs, model.new_state(len(texts))).state

    @torch.inference_mode()
    def __call__(self) -> None:
        for _ in range(self._num_steps):
            seqs = Sequences.from_lengths(self._lengths, device=self._texts.device)
            out = self.model(self._texts[:, self.position], seqs, self._state)
            out.logits.argmax(-1)
            self._state = out.state
            self.position += 1
            self.num_bytes += len(self._texts)
            self.num_chunks += sum(int(routing.is_boundary.sum()) for routing in out.routings[:1])

    @property
    def bytes_per_chunk(self) -> list[float]:
        """Of the outermost stage, over all that was decoded; empty for a model that does not chunk."""
        return [self.num_bytes / self.num_chunks] if self.num_chunks else []

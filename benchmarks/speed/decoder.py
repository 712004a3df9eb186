"""Many streams decoded together by a stepper: one call per byte, the likeliest next byte of each chosen.

What is read next is the text, not the byte chosen: a random model soon repeats one byte for ever, in which its router
would see no reason to cut, and decoding would look faster than on any text.
"""

import torch
from torch import Tensor

from hnet_lm.generation.stepper import build_stepper
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences


class Decoder:
    """The prompts are read on construction; calling it then reads `num_steps` bytes more of every stream."""

    def __init__(self, model: HNetLM, texts: Tensor, prompt_bytes: int, num_steps: int):
        """`texts` are (b, l) ids, long enough for all calls."""
        self.model = model
        self._texts = texts
        self._num_steps = num_steps
        self._prompt_bytes = prompt_bytes
        self.position = prompt_bytes
        self._stepper = build_stepper(model, len(texts))
        self._streams = [self._stepper.admit() for _ in range(len(texts))]
        self._stepper.extend(self._streams, texts[:, :prompt_bytes].tolist())
        self._next_ids = texts.T.tolist()  # l b

    def __call__(self) -> None:
        for _ in range(self._num_steps):
            out = self._stepper.step(self._streams, self._next_ids[self.position])
            out.logits.argmax(-1)
            self.position += 1

    @property
    def bytes_per_chunk(self) -> list[float]:
        """Of the outermost stage, over the bytes decoded so far; empty for a model that does not chunk."""
        read = self._texts[:, : self.position]
        with torch.inference_mode():
            seqs = Sequences.from_lengths([self.position] * len(read), device=read.device)
            routings = self.model.encode(read.flatten(), seqs).routings
        decoded = [routing.is_boundary.view(read.shape)[:, self._prompt_bytes :] for routing in routings[:1]]
        return [part.numel() / int(part.sum()) for part in decoded]

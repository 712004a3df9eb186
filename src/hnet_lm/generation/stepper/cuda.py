"""The stepper of a GPU: the step of `static`, captured once as a CUDA graph and replayed in one launch.

A graph reads a fixed number of entries of keys and values, so there is one for each power of 2 that contexts reach. It
is captured when it is needed first; the graphs share their memory, since no two run at once.
"""

from typing import Any

import torch

from hnet_lm.generation.stepper.fixed_step import NOBODY
from hnet_lm.generation.stepper.static import StaticStepper
from hnet_lm.model import HNetLM
from hnet_lm.model.mixers import Attention

NUM_WARM_UPS = 2
"""Steps before a capture: kernels are compiled and timed, and libraries allocate what they keep."""


class CudaStepper(StaticStepper):
    """Steps that are one launch, on a GPU; spans by the model's forward."""

    def __init__(self, model: HNetLM, max_streams: int, **options: Any) -> None:
        super().__init__(model, max_streams, **options)
        self._graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph] = {}
        self._graph_memory = torch.cuda.graph_pool_handle()

    @classmethod
    def supports(cls, model: HNetLM) -> str | None:
        if model.device.type != "cuda":
            return f"it is on {model.device}, and a CUDA graph takes a GPU"
        for name, module in model.named_modules():
            if isinstance(module, Attention) and module.rotary_frequencies is not None:
                return f"{name} sends its scaled frequencies to the GPU in each call"
        return super().supports(model)

    def _launch(self, num_entries: tuple[int, ...]) -> None:
        graph = self._graphs.get(num_entries)
        if graph is None:
            graph = self._graphs[num_entries] = self._captured(num_entries)
        graph.replay()

    def _captured(self, num_entries: tuple[int, ...]) -> torch.cuda.CUDAGraph:
        """Steps of nobody change no state."""
        step, graph = self._fixed_step, torch.cuda.CUDAGraph()
        asked, num_read, read = step.asked.clone(), step.num_read.clone(), step.read.clone()
        step.asked.fill_(NOBODY)
        stream = torch.cuda.Stream(self.model.device)
        stream.wait_stream(torch.cuda.current_stream(self.model.device))
        with torch.cuda.stream(stream):
            for _ in range(NUM_WARM_UPS):
                super()._launch(num_entries)
        torch.cuda.current_stream(self.model.device).wait_stream(stream)
        with torch.cuda.graph(graph, pool=self._graph_memory, capture_error_mode="thread_local"):
            super()._launch(num_entries)
        for owned, before in ((step.asked, asked), (step.num_read, num_read), (step.read, read)):
            owned.copy_(before)
        return graph

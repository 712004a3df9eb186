"""The H-Net: a stage that encodes, cuts into chunks, runs the main network on the chunks, and decodes; recursive.

    x_hat = encoder(x)                  p, b = routing(x_hat)
    z = smoothing(main_network(x_hat[b]), p[b])
    out = decoder(ste(c) * z[chunk of each position] + residual_proj(x_hat))

The main network is the next stage, an H-Net of its own, or the innermost stack. It may be wider: a learned vector is
appended on the way in, and the first entries are kept on the way out.

The routing module may be another chunker (`config.chunkers`), and smoothing, confidence and residual connection may be
others or none (`config.chunking`). With `config.spacebyte` the parts are put together as in SpaceByte:
out = decoder(z[chunk of each position] + x_hat), and no network ends in a norm but the outermost decoder.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking import (
    ByteSmoothing,
    Chunker,
    ConfidenceUpsampler,
    Downsampler,
    NoSmoothing,
    Routing,
    SmoothingModule,
    SmoothingState,
    UnweighedUpsampler,
    Upsampler,
    UpsamplerState,
)
from hnet_lm.model.isotropic import Isotropic, IsotropicState
from hnet_lm.model.layers import Float32Linear, NoConnection, Widen
from hnet_lm.model.rounding import num_copies, with_copies, without_copies
from hnet_lm.sequences import Sequences
from hnet_lm.state import State, consumed

SMOOTHINGS = {"chunks": SmoothingModule, "bytes": ByteSmoothing, "none": NoSmoothing}
UPSAMPLERS = {"straight_through": Upsampler, "weight": ConfidenceUpsampler, "none": UnweighedUpsampler}


@dataclass
class HNetState(State):
    """What a stage carries, part by part."""

    encoder: IsotropicState
    routing: State
    main_network: State
    smoothing: SmoothingState
    upsampler: UpsamplerState
    decoder: IsotropicState


class HNet(nn.Module):
    """One stage and all that lies inside it. State: its parts' (`HNetState`)."""

    def __init__(self, config: HNetConfig, stage: int = 0, byte_model: nn.Module | None = None):
        super().__init__()
        this, inner = config.stages[stage], config.stages[stage + 1]
        assert this.encoder is not None
        assert this.decoder is not None
        self.d_model = this.d_model
        self.encoder = Isotropic(this.encoder, this, config.mamba2, ends_in_norm=not config.spacebyte)
        self.routing = _build_chunker(config, stage, byte_model)
        self.downsampler = Downsampler()
        self.widen = Widen(this.d_model, inner.d_model)
        self.main_network = build_network(config, stage + 1)
        chunking = config.chunking_of(stage)
        self.smoothing = SMOOTHINGS[chunking.smoothing](this.d_model)
        self.upsampler = UPSAMPLERS[chunking.confidence](this.d_model)
        self.residual_proj = _build_residual("identity" if config.spacebyte else chunking.residual, this.d_model)
        self.decoder = Isotropic(this.decoder, this, config.mamba2, ends_in_norm=not config.spacebyte or stage == 0)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: HNetState | None = None
    ) -> tuple[Float[Tensor, "t d"], HNetState | None, tuple[Routing, ...]]:
        """The output, the state, and the routing of this stage and of those inside it."""
        state = consumed(state, HNetState)
        x_hat, routing, inner, inner_seqs, (*carried, smoothing) = self._encode(x, seqs, state)
        inner, main_network, inner_routings = self._run_main_network(inner, inner_seqs, state and state.main_network)
        z = inner[:, : self.d_model]
        if not self.smoothing.is_before_main_network:
            z, smoothing = self.smoothing(z, routing, inner_seqs, smoothing)
        y, upsampler = self.upsampler(z, routing, inner_seqs, state and state.upsampler)
        out, decoder = self.decoder(y + self.residual_proj(x_hat), seqs, state and state.decoder)
        states: Any = (*carried, main_network, smoothing, upsampler, decoder)  # all None without a state
        return out, state and HNetState(*states), (routing, *inner_routings)

    def encode(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: HNetState | None = None
    ) -> tuple[Float[Tensor, "c d_inner"], Sequences, HNetState | None, tuple[Routing, ...]]:
        """What enters the innermost network: its vectors and their sequences, the state, and the routing of every
        stage. Only encoders and routing run; no boundary depends on anything else."""
        state = consumed(state, HNetState)
        _, routing, inner, inner_seqs, (encoder, routing_state, smoothing) = self._encode(x, seqs, state)
        main_network: Any = state and state.main_network
        routings = ()
        if isinstance(self.main_network, HNet):
            inner, inner_seqs, main_network, routings = self.main_network.encode(inner, inner_seqs, main_network)
        if state is not None:
            carried: Any = {"encoder": encoder, "routing": routing_state, "smoothing": smoothing}
            state = replace(state, **carried, main_network=main_network)
        return inner, inner_seqs, state, (routing, *routings)

    def _encode(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: HNetState | None
    ) -> tuple[
        Float[Tensor, "t d"],
        Routing,
        Float[Tensor, "c d_inner"],
        Sequences,
        tuple[IsotropicState | None, State | None, SmoothingState | None],
    ]:
        """x_hat and its routing; what enters the next stage; the states of encoder, routing and smoothing."""
        x_hat, encoder = self.encoder(x, seqs, state and state.encoder)
        routing, routing_state = self.routing(x_hat, seqs, state and state.routing)
        smoothed, smoothing = x_hat, state and state.smoothing
        if self.smoothing.is_before_main_network:
            smoothed, smoothing = self.smoothing(x_hat, routing, seqs, smoothing)
        inner, inner_seqs = self.downsampler(smoothed, routing)
        inner = self.widen(inner)
        if self.training and torch.is_grad_enabled():
            routing = replace(routing, chunks=inner)
        return x_hat, routing, inner, inner_seqs, (encoder, routing_state, smoothing)

    def _run_main_network(
        self, inner: Float[Tensor, "c d_inner"], inner_seqs: Sequences, state: State | None
    ) -> tuple[Float[Tensor, "c d_inner"], State | None, tuple[Routing, ...]]:
        num = num_copies(inner) if state is None else 0
        if not num:
            return run_network(self.main_network, inner, inner_seqs, state)
        y, _, routings = run_network(self.main_network, with_copies(inner, num), inner_seqs.lengthened(num), None)
        return y[: len(inner)], None, without_copies(routings, inner_seqs)

    def new_state(self, num_sequences: int) -> HNetState:
        weight = next(self.encoder.parameters())
        wide = torch.promote_types(weight.dtype, torch.float32)
        return HNetState(
            encoder=self.encoder.new_state(num_sequences),
            routing=self.routing.new_state(num_sequences, weight.device),
            main_network=self.main_network.new_state(num_sequences),
            smoothing=self.smoothing.new_state(num_sequences, wide, weight.device),
            upsampler=self.upsampler.new_state(num_sequences, wide, weight.device),
            decoder=self.decoder.new_state(num_sequences),
        )


def build_network(config: HNetConfig, stage: int = 0, byte_model: nn.Module | None = None) -> HNet | Isotropic:
    """What runs at a stage: an H-Net, or the innermost stack. `byte_model` is for an entropy chunker of this stage."""
    this = config.stages[stage]
    if this.main_network is not None:
        return Isotropic(this.main_network, this, config.mamba2, ends_in_norm=not config.spacebyte)
    return HNet(config, stage, byte_model)


def _build_residual(kind: str, d_model: int) -> nn.Module:
    kinds = {"identity": nn.Identity, "none": NoConnection}
    return kinds[kind]() if kind in kinds else Float32Linear(d_model, d_model)


def _build_chunker(config: HNetConfig, stage: int, byte_model: nn.Module | None) -> Chunker:
    """The module that cuts a stage. Raises ConfigError for a chunker that builds something else."""
    chunker = config.chunker(stage)
    module = chunker.build(config.chunker_site(stage, byte_model))
    if not isinstance(module, Chunker):
        raise ConfigError(f"chunkers, entry {stage}: {chunker.name!r} builds a {type(module).__name__}, not a Chunker")
    buffers = [name for name, _ in module.named_buffers()]
    if buffers:
        raise ConfigError(
            f"chunkers, entry {stage}: {chunker.name!r} has buffers ({', '.join(buffers)}), and only parameters are "
            "saved; make constants where they are used"
        )
    return module


def run_network(
    network: HNet | Isotropic, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None
) -> tuple[Float[Tensor, "t d"], State | None, tuple[Routing, ...]]:
    """Output, state and routings of either kind of network; an innermost stack routes nothing."""
    if isinstance(network, HNet):
        return network(x, seqs, state)
    y, state = network(x, seqs, state)
    return y, state, ()

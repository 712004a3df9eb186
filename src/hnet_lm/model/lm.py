"""The language model: bytes to an embedding, through the H-Net, to logits over the next byte."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.model.hnet import HNet, HNetState, build_network, run_network
from hnet_lm.model.initialization import initialize
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.model.ngrams import HashedNgrams, NgramState
from hnet_lm.model.padding import Padding
from hnet_lm.model.rounding import num_copies, with_copies
from hnet_lm.ops.checks import WHOLE_NUMBERS, require_plain
from hnet_lm.ops.dispatch import load_preferred
from hnet_lm.sequences import Sequences
from hnet_lm.state import Sizes, State, consumed


class HNetOutput(NamedTuple):
    """What a call returns, packed `(t, ...)` or padded `(b, l, ...)` as the input was given."""

    logits: Float[Tensor, "*t v"]
    """Logits of the byte after each position; 0 where there is padding."""
    routings: tuple[Routing, ...]
    """One per stage, outermost first; empty for an isotropic model."""
    state: State | None
    """What to pass in to continue these sequences; None if no state was passed."""
    hidden: Float[Tensor, "*t d"]
    """What the head reads: the vector of each position; 0 where there is padding."""


@dataclass(frozen=True)
class Encoding:
    """What a text is to the innermost network, packed."""

    chunks: Float[Tensor, "c d_inner"]
    """The vectors that enter it, one per chunk; of an isotropic model, the embedding."""
    seqs: Sequences
    """How the chunks divide into sequences."""
    routings: tuple[Routing, ...]
    """One per stage, outermost first."""
    state: State | None
    """What to pass in to encode on; None if no state was passed."""


@dataclass
class HNetLMState(State):
    """What a model with n-grams carries: their last bytes, and the network's state, which is all of other models'."""

    ngrams: NgramState
    network: State


class HNetLM(nn.Module):
    """logits = head(H-Net(embedding(bytes))). State: the network's; with n-grams an `HNetLMState`."""

    def __init__(self, config: HNetConfig):
        """Weights are drawn from torch's global generator; on the meta device there are none to draw."""
        super().__init__()
        self.config = config
        vocab_size, d_model = config.vocab_size, config.stages[0].d_model
        self.embedding = nn.Embedding.from_pretrained(torch.empty(vocab_size, d_model), freeze=False)
        self.ngrams = None if config.ngrams is None else HashedNgrams(config.ngrams, d_model)
        byte_model = None if config.byte_model is None else HNetLM(config.byte_model)
        self.network = build_network(config, byte_model=byte_model)
        self.lm_head = None if config.tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        initialize(self.embedding, self.network, self.lm_head)
        load_preferred(self.device)

    def forward(
        self,
        input_ids: Int[Tensor, "*t"],
        seqs: Sequences | None = None,
        state: State | None = None,
        *,
        attention_mask: Tensor | None = None,
    ) -> HNetOutput:
        """Packed `(t,)` ids with their sequences, or `(b, l)` ids: equal rows, or a mask of left or right padding."""
        require_plain("HNetLM", "input_ids", input_ids)
        if input_ids.dim() == 2:
            if seqs is not None:
                raise ValueError("sequences go with packed (t,) input_ids; (b, l) input_ids take an attention_mask")
            padding = Padding(input_ids.shape, attention_mask, input_ids.device)
            out = self.forward(padding.pack(input_ids), padding.seqs, state)
            routings = padding.unpack_routings(out.routings)
            return HNetOutput(padding.unpack(out.logits), routings, out.state, padding.unpack(out.hidden))
        if input_ids.dim() != 1 or attention_mask is not None:
            shape = tuple(input_ids.shape)
            raise ValueError(f"input_ids must be (t,) or (b, l), with an attention_mask only for (b, l); got {shape}")
        seqs = self._checked(input_ids, seqs, state)
        x, ngrams, state = self._embed(seqs, state)
        out = self.from_vectors(x, seqs, state)
        return out._replace(state=_with_ngrams(ngrams, out.state))

    def from_vectors(self, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None = None) -> HNetOutput:
        """From packed vectors in the place of embedded ids; the state is the network's."""
        # A batch has a fixed number of bytes, but not of tokens.
        num = num_copies(x) if state is None and isinstance(self.network, Isotropic) else 0
        y, state, routings = run_network(self.network, with_copies(x, num), seqs.lengthened(num), state)
        logits = linear(y, self.embedding.weight) if self.lm_head is None else self.lm_head(y)
        if num:
            logits, y = logits[: len(x)], y[: len(x)]
        return HNetOutput(logits, routings, state, y)

    def encode(
        self, input_ids: Int[Tensor, " t"], seqs: Sequences | None = None, state: State | None = None
    ) -> Encoding:
        """Packed ids up to the innermost network. `model.innermost(encoding.chunks, encoding.seqs)` goes on from there.

        The state is that of the whole model, of which encoders and routing are continued and the rest stays.
        """
        seqs = self._checked(input_ids, seqs, state)
        x, ngrams, state = self._embed(seqs, state)
        if isinstance(self.network, HNet):
            chunks, inner_seqs, state, routings = self.network.encode(x, seqs, cast(HNetState | None, state))
            return Encoding(chunks, inner_seqs, routings, _with_ngrams(ngrams, state))
        return Encoding(x, seqs, (), _with_ngrams(ngrams, state))

    def embed(
        self, input_ids: Int[Tensor, " t"], seqs: Sequences | None = None
    ) -> tuple[Float[Tensor, "t d"], Sequences]:
        """The vectors of packed ids that enter the network, and their sequences, which know their bytes."""
        seqs = self._checked(input_ids, seqs, None)
        return self._embed(seqs, None)[0], seqs

    def _embed(
        self, seqs: Sequences, state: State | None
    ) -> tuple[Float[Tensor, "t d"], NgramState | None, State | None]:
        """What enters the network, and the states of n-grams and network."""
        x = self.embedding(seqs.require_input_ids("HNetLM"))
        if self.ngrams is None:
            return x, None, state
        state = consumed(state, HNetLMState)
        x, ngrams = self.ngrams(x, seqs, state and state.ngrams)
        return x, ngrams, state and state.network

    def _checked(self, input_ids: Int[Tensor, " t"], seqs: Sequences | None, state: State | None) -> Sequences:
        """The sequences of packed ids, which know them, with everything checked that a caller may get wrong."""
        require_plain("HNetLM", "input_ids", input_ids)
        if input_ids.dim() != 1 or input_ids.dtype not in WHOLE_NUMBERS:
            shape = tuple(input_ids.shape)
            raise ValueError(f"input_ids must be whole numbers, (t,) or (b, l); got {input_ids.dtype} of {shape}")
        if input_ids.device != self.device:
            raise ValueError(f"input_ids are on {input_ids.device}, the model is on {self.device}")
        if input_ids.device.type == "cpu" and len(input_ids) and not torch.compiler.is_compiling():
            least, most = (int(end) for end in input_ids.aminmax())
            if least < 0 or most >= self.config.vocab_size:
                raise ValueError(f"input_ids must be 0 to {self.config.vocab_size - 1}, got {least} to {most}")
        if seqs is None:
            seqs = Sequences.from_lengths([len(input_ids)], device=input_ids.device)
        if not isinstance(seqs, Sequences):
            raise TypeError(f"seqs must be Sequences, not {type(seqs).__name__}")
        if seqs.num_positions != len(input_ids):
            raise ValueError(f"the sequences have {seqs.num_positions} positions, but input_ids has {len(input_ids)}")
        if seqs.device != input_ids.device:
            raise ValueError(f"the sequences are on {seqs.device}, input_ids on {input_ids.device}")
        if state is not None:
            if not isinstance(state, State):
                raise TypeError(f"the state must be one of this model, not {type(state).__name__}")
            state.require_sizes(self._state_sizes)
            seqs.require_slots(state.num_sequences)
        return seqs.with_input_ids(input_ids)

    @property
    def innermost(self) -> Isotropic:
        """The innermost main network, which sees one vector per chunk."""
        network = self.network
        while isinstance(network, HNet):
            network = network.main_network
        return network

    @property
    def head_weight(self) -> Float[Tensor, "v d"]:
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def new_state(self, num_sequences: int) -> State:
        """The state of sequences of which nothing has been seen yet."""
        network = self.network.new_state(num_sequences)
        return _with_ngrams(self.ngrams and self.ngrams.new_state(num_sequences), network)

    @cached_property
    def _state_sizes(self) -> Sizes:
        return self.new_state(0).sizes()

    def load_byte_model(self, byte_model: "HNetLM") -> None:
        """Give the chunker that asks a byte model the weights of a trained one. ConfigError: it is another model."""
        if byte_model.config != self.config.byte_model:
            raise ConfigError("byte_model: the configuration describes another model than the one given")
        assert isinstance(self.network, HNet)
        self.network.routing.get_submodule("byte_model").load_state_dict(byte_model.state_dict())

    def load_main_network(self, other: "HNetLM") -> None:
        """Give the innermost network the blocks of an isotropic model. ConfigError: they are others than its own."""
        ours, theirs = self.config.stages[-1], other.config.stages[-1]
        if other.config.num_stages or ours != theirs or self.config.mamba2 != other.config.mamba2:
            raise ConfigError("main_network: the innermost stage of the configuration is not that of the model given")
        self.innermost.load_state_dict(other.network.state_dict())

    def parameter_stages(self) -> dict[str, int]:
        """The stage of every parameter. Embedding and head belong to 0, a pad vector to the stage it leads into."""
        stages = {}
        for name, _ in self.named_parameters():
            own_name = name.partition(".byte_model.")[0]  # an entropy chunker's model counts as its stage's
            depth = own_name.count("main_network.") + own_name.count("widen.")
            stages[name] = min(depth, self.config.num_stages)
        return stages

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device


def _with_ngrams(ngrams: NgramState | None, network: State | None) -> Any:
    """The state of a whole model."""
    return network if ngrams is None or network is None else HNetLMState(ngrams, network)

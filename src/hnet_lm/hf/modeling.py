"""The model: an `HNetLM`, called as transformers calls its models.

A padded batch becomes packed sequences at the door, as everywhere in this package, and logits go back into its shape.
With labels the loss is that of `hnet-lm train`: mean cross entropy of the next byte, plus the weighted ratio loss of
every stage that learns where to cut. What is added beside those in a run file is not known here.
"""

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.hf.cache import StateCache
from hnet_lm.hf.configuration import REMOTE_FILE, HNetLMConfig
from hnet_lm.losses import IGNORE_INDEX, LossInputs, RatioLoss, next_byte_loss, term_values
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.model.padding import Padding
from hnet_lm.sequences import Sequences

TEMPLATE = Path(__file__).with_name("remote_code.py.txt")
PREFIX = "model"
SHOWN_PROBLEMS = 3


@dataclass
class HNetCausalLMOutput(ModelOutput):
    """What a call returns, in the shape of the batch that was given."""

    loss: Float[Tensor, ""] | None = None
    """With labels: the training loss, `next_byte_loss + ratio_loss_weight * ratio_loss`."""
    logits: Float[Tensor, "b l v"] | None = None
    """Logits of the byte after each position; 0 where there is padding."""
    cache: StateCache | None = None
    hidden_states: tuple[Float[Tensor, "b l d"], ...] | None = None
    """On request: what the head reads, the only vectors that are one per byte."""
    routings: tuple[Routing, ...] | None = None
    """Where each stage cuts, outermost first: `boundary_prob`, `is_boundary`, and `valid`, which says what is no
    padding. An inner stage has a position per chunk of the stage around it."""
    next_byte_loss: Float[Tensor, ""] | None = None
    """With labels: mean cross entropy in nats."""
    ratio_loss: Float[Tensor, ""] | None = None
    """With labels: the sum over the stages that learn where to cut, without its weight."""


class HNetLMForCausalLM(PreTrainedModel, GenerationMixin):
    """An `HNetLM` as `.model`; its weights have the names of a saved directory behind `model.`."""

    config_class = HNetLMConfig
    config: HNetLMConfig
    base_model_prefix = PREFIX
    main_input_name = "input_ids"
    _no_split_modules: ClassVar[list[str]] = ["HNetLM"]
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["residual_proj"]
    _is_stateful = True  # refuses what would have to take bytes back, such as assisted decoding
    _supports_attention_backend = False

    def __init__(self, config: HNetLMConfig) -> None:
        super().__init__(config)
        self.model = HNetLM(config.architecture)
        self.post_init()
        self.generation_config = _generation_config(config.architecture)

    @classmethod
    def of_model(cls, model: HNetLM, **options: Any) -> "HNetLMForCausalLM":
        """A model of this package, which is wrapped and not copied; `options` are fields of `HNetLMConfig`."""
        with torch.device("meta"):
            wrapped = cls(HNetLMConfig.of(model.config, **options))
        wrapped.model = model
        wrapped.config.dtype = model.embedding.weight.dtype
        return wrapped.train(model.training)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers', but weights that are missing are an error: CheckpointError."""
        model, info = cast(Any, super().from_pretrained(*args, output_loading_info=True, **kwargs))
        missing = sorted(info["missing_keys"])
        if missing:
            names = ", ".join(missing[:SHOWN_PROBLEMS])
            raise CheckpointError(f"{args[0] if args else ''}: has no weights for {names}, {len(missing)} in all")
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with the small file that `trust_remote_code=True` runs."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TEMPLATE, Path(save_directory) / f"{REMOTE_FILE}.py")
        return super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModelForCausalLM") -> None:
        """Nothing: a saved directory names its own file, whichever way the model was loaded."""

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `HNetLM` has drawn them."""

    def forward(
        self,
        input_ids: Int[Tensor, "b l"] | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        labels: Int[Tensor, "b l"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Bytes `(b, l)`, padded on the left or on the right where `attention_mask` is 0.

        `labels` are the ids themselves, -100 where a byte is not to be learned; they are shifted here. With
        `num_items_in_batch` the loss is this batch's share of the mean over so many targets. A mask that is longer than
        the ids is that of all that the cache has seen and of these. One row whose `position_ids` begin again at 0 is
        several sequences, one behind the other, as transformers' DataCollatorWithFlattening lays them. Raises
        ValueError.
        """
        ids, cache = self._checked(input_ids, cache, kwargs)
        if attention_mask is not None and attention_mask.dim() == 2:
            attention_mask = attention_mask[:, attention_mask.shape[1] - ids.shape[1] :]
        padding = Padding(ids.shape, attention_mask, ids.device)
        position_ids = kwargs.get("position_ids")
        if position_ids is not None and cache is None and attention_mask is None:
            padding.seqs = _flattened(position_ids, padding.seqs)
        if padding.seqs.num_sequences != len(ids):  # whose state would be that of no row
            use_cache = False
        state, cache = self._state(cache, use_cache, labels, len(ids))
        out = self.model(padding.pack(ids), padding.seqs, state)
        if cache is not None:
            cache.state, cache.num_columns = out.state, cache.num_columns + ids.shape[1]
        loss, cross_entropy, ratio_loss = None, None, None
        if labels is not None:
            inputs = _loss_inputs(out, padding.pack(ids), padding.pack(labels), padding.seqs)
            cross_entropy, ratio_loss = self._losses(inputs)
            loss = cross_entropy + self.config.ratio_loss_weight * ratio_loss
            if num_items_in_batch is not None:
                loss = loss * ((inputs.targets != IGNORE_INDEX).sum() / num_items_in_batch)
        with_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        result = HNetCausalLMOutput(
            loss=loss,
            logits=_last(padding.unpack(out.logits), logits_to_keep),
            cache=cache,
            hidden_states=(padding.unpack(out.hidden),) if with_hidden else None,
            routings=padding.unpack_routings(out.routings),
            next_byte_loss=cross_entropy,
            ratio_loss=ratio_loss,
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return result if as_dict else result.to_tuple()

    def _checked(
        self, input_ids: Tensor | None, cache: Cache | None, further: dict[str, Any]
    ) -> tuple[Tensor, StateCache | None]:
        """Ids and cache. Raises ValueError where something else was given that would count."""
        given = [name for name in ("inputs_embeds", "past_key_values") if further.get(name) is not None]
        if input_ids is None or given:
            what = f"not {' and '.join(given)}" if given else "which are missing"
            raise ValueError(f"the model reads input_ids (and a cache: hnet_lm.hf.StateCache), {what}")
        if input_ids.dim() != 2:
            raise ValueError(f"input_ids must be (batch, length), got {tuple(input_ids.shape)}")
        if cache is not None and not isinstance(cache, StateCache):
            raise ValueError(f"the cache must be a hnet_lm.hf.StateCache, not {type(cache).__name__}")
        return input_ids, cache

    def _state(
        self, cache: StateCache | None, use_cache: bool | None, labels: Tensor | None, batch_size: int
    ) -> tuple[Any, StateCache | None]:
        """The state to go on from, and the cache that will hold the one after it."""
        if cache is None:
            wants = self.config.use_cache if use_cache is None else use_cache
            if not wants or labels is not None or self.training:
                return None, None
            cache = StateCache()
        state = self.model.new_state(batch_size) if cache.state is None else cache.state
        return state, cache

    def _losses(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Mean cross entropy, and the ratio losses of all stages together."""
        architecture = self.model.config
        for chunker in architecture.all_chunkers:
            if chunker.needs_terms:
                terms = ", ".join(chunker.needs_terms)
                raise ConfigError(f"the chunker {chunker.name!r} learns by {terms}; train it with `hnet-lm train`")
        num_targets = (inputs.targets != IGNORE_INDEX).sum().clamp(min=1)
        cross_entropy = next_byte_loss(inputs.logits, inputs.targets, "sum") / num_targets
        ratio = RatioLoss(tuple(self.config.target_ratios or ()))
        found = [term.value for term in term_values([ratio], inputs)]
        return cross_entropy, torch.stack(found).sum() if found else cross_entropy.new_zeros(())

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any) -> None:
        """A `StateCache`, in place of one of keys and values. Raises ValueError where another kind is asked for, and
        for prompts padded on the right: what is written would follow the padding."""
        mask = model_kwargs.get("attention_mask")
        if mask is not None and not bool(mask[:, -1].all()):
            raise ValueError("generate takes prompts padded on the left; set tokenizer.padding_side = 'left'")
        kind = generation_config.cache_implementation
        if kind not in (None, "dynamic"):
            raise ValueError(f"cache_implementation={kind!r}: the model has a state of its own; leave it out")
        if model_kwargs.get("cache") is None and generation_config.use_cache is not False:
            model_kwargs["cache"] = StateCache()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def get_output_embeddings(self) -> nn.Module | None:
        return self.model.lm_head

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ValueError: there are as many bytes as there are."""
        raise ValueError("the vocabulary of this model is fixed: bytes, and what starts and ends a text")


def _generation_config(architecture: HNetConfig) -> GenerationConfig:
    """BOS gets no probability, as in our own `generate`: it starts a text, and nothing else."""
    bos, eos = architecture.bos_id, architecture.eos_id
    return GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=eos, suppress_tokens=[bos])


def _loss_inputs(out: Any, ids: Tensor, labels: Tensor, seqs: Sequences) -> LossInputs:
    """Packed: the target of a position is the label of the next one of its sequence."""
    targets = torch.cat([labels[1:], labels[:1]])
    ends = seqs.cu_seqlens[1:][seqs.lengths > 0] - 1
    targets = targets.index_fill(0, ends, IGNORE_INDEX)
    return LossInputs(out.logits, targets, out.hidden, out.routings, seqs.with_input_ids(ids))


def _flattened(position_ids: Int[Tensor, "b l"], rows: Sequences) -> Sequences:
    """The sequences that begin where a position is 0. Raises ValueError for positions that are none of a sequence."""
    positions = position_ids.flatten()
    starts = (positions == 0).nonzero()[:, 0].tolist()
    lengths = [end - start for start, end in pairwise([*starts, len(positions)])]
    seqs = Sequences.from_lengths(lengths, device=rows.device) if len(position_ids) == 1 and starts[:1] == [0] else rows
    if seqs.num_positions != len(positions) or not torch.equal(seqs.positions, positions):
        raise ValueError("position_ids: must count each row from 0, or several sequences that lie in one row")
    return seqs


def _last(logits: Float[Tensor, "b l v"], keep: int | Tensor) -> Float[Tensor, "b k v"]:
    """Those of the last columns, or of the named ones; 0 keeps all."""
    return logits[:, keep] if isinstance(keep, Tensor) else logits[:, -keep:] if keep else logits

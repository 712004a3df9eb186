"""The model for the LM Evaluation Harness, registered as `hnet-lm`.

    import hnet_lm.evaluation.harness
    lm_eval.simple_evaluate("hnet-lm", {"path": "runs/demo"}, tasks=["hellaswag"])

Importing this module registers the name. Differences from a model of tokens: BOS precedes every text; prompt and
continuation are split exactly where the task splits them, since bytes do not merge across the split; nothing is
truncated, because the state is carried through texts of any length; and a task's token budget is converted to bytes.
A leaf: the only file that needs `lm_eval`.
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_metric, get_metric_aggregation, is_higher_better, register_model
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import simple_parse_args_string

from hnet_lm.checkpoint import load
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.evaluation.byte_scorer import ByteScorer
from hnet_lm.evaluation.scorer import Passage, Scorer
from hnet_lm.generation import Engine, EngineLimits, Request, SamplingParams
from hnet_lm.model import HNetLM

BATCH_SIZE = 16
BYTES_PER_TOKEN = 5  # about the bytes per BPE token of English, rounded up
BYTE_ACCURACY = "acc_bytes"

NO_EFFECT: dict[str, tuple[Any, ...] | None] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "early_stopping": None,
    "length_penalty": None,
    "use_cache": None,
    "return_dict_in_generate": None,
    "skip_special_tokens": None,
    "spaces_between_special_tokens": None,
    "pad_token_id": None,
    "eos_token_id": None,
    "top_k": (-1,),
    "typical_p": (1,),
    "no_repeat_ngram_size": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "min_new_tokens": (0,),
    "min_tokens": (0,),
    "min_length": (0,),
}
"""Generation options of other backends without effect here, with the values for which that is true; None: any."""

Write = Callable[[Sequence[tuple[bytes, SamplingParams]]], list[str]]
"""Continues prompts, each in its own way."""


@register_model("hnet-lm")
class HarnessLM(LM):
    """A harness model of two parts: a `Scorer`, and a function that continues prompts. Either may be of tokens."""

    def __init__(self, scorer: Scorer, write: Write, *, bytes_per_token: float = BYTES_PER_TOKEN) -> None:
        """`bytes_per_token`: how many new bytes one token of a task's `max_gen_toks` is worth."""
        super().__init__()
        self.scorer = scorer
        self.write = write
        self.bytes_per_token = bytes_per_token
        self._said: set[str] = set()

    @classmethod
    def of_model(cls, model: HNetLM, *, batch_size: int = BATCH_SIZE, **options: Any) -> Self:
        """`batch_size` requests at once; they may be of any lengths."""
        return cls(ByteScorer(model, max_active=batch_size), byte_writer(model, batch_size), **options)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Self:
        """From the harness: `path` (a saved directory or hub name), `dtype`, `bytes_per_token`; batch size, device."""
        options = arg_dict | {key: value for key, value in (additional_config or {}).items() if value is not None}
        options.pop("max_batch_size", None)
        if "path" not in options:
            raise ConfigError("hnet-lm: model arguments need path=DIRECTORY, where a model was saved")
        dtype = options.pop("dtype", None)
        model = load(
            options.pop("path"),
            dtype=None if dtype is None else getattr(torch, dtype),
            device=options.pop("device", "cpu"),
        )
        batch_size = options.pop("batch_size", BATCH_SIZE)
        return cls.of_model(model, batch_size=BATCH_SIZE if batch_size == "auto" else int(batch_size), **options)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """For each (context, continuation): nats of the continuation, and whether every byte is the likeliest."""
        passages = (Passage(after.encode(), before.encode()) for before, after in map(_arguments, requests))
        answers = [(score.logprob, score.is_greedy) for score in self.scorer.score(passages)]
        return self._remember("loglikelihood", requests, answers)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """For each (text,): nats of the whole text, each byte after all before it."""
        passages = (Passage(text.encode()) for (text,) in map(_arguments, requests))
        answers = [score.logprob for score in self.scorer.score(passages)]
        return self._remember("loglikelihood_rolling", requests, answers)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """For each (context, options): the continuation before the first stop string."""
        prompts = []
        for seed, request in enumerate(requests):
            context, options = _arguments(request)
            task = f"task {request.task_name}" if request.task_name else "generation"
            try:
                prompts.append((context.encode(), self._params(options, seed)))
            except UserError as error:
                raise ConfigError(f"{task}: {error}") from error
            if passed_over := _without_effect(options):
                self._say(f"{task}: {', '.join(passed_over)} has no effect on this model and is ignored")
        return self._remember("generate_until", requests, self.write(prompts))

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            logging.getLogger(__name__).warning(line)

    def _params(self, options: dict[str, Any], seed: int) -> SamplingParams:
        """The harness's generation options as ours; greedy unless sampling is asked for. A task's own seed counts."""
        passed_over = _without_effect(options)
        given: dict[str, Any] = {
            key: value
            for key, value in normalize_gen_kwargs(options).items()
            if value is not None and key not in passed_over
        }
        is_sampling = given.pop("do_sample")
        num_tokens = given.pop("max_gen_toks")
        stops = given.pop("until", None) or []
        for name in NO_EFFECT.keys() & given.keys() - {"top_k"}:
            raise ConfigError(f"the generation option {name}: {given[name]} is not possible: bytes are sampled singly")
        return SamplingParams.from_options(
            max_new_bytes=round(num_tokens * self.bytes_per_token),
            stop=tuple(stop for stop in stops if stop),
            **({"temperature": 1.0 if is_sampling else 0.0, "seed": seed} | given),
        )

    def _remember(self, kind: str, requests: list[Instance], answers: list[Any]) -> list[Any]:
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(kind, request.args, answer)
        return answers


class ByteTaskManager(TaskManager):
    """Finds tasks as the harness does, and adds to every multiple-choice task the accuracy normalised by bytes.

    The harness's `acc_norm` divides a choice's log-probability by its characters.
    """

    def load(self, *args: Any, **kwargs: Any) -> Any:
        try:
            loaded = super().load(*args, **kwargs)
        except (ValueError, KeyError, TypeError) as error:  # an invalid task file, or two tasks with one name
            raise ConfigError(f"tasks cannot be loaded: {' '.join(str(error).split())}") from error
        for task in loaded["tasks"].values():
            if task.OUTPUT_TYPE == "multiple_choice" and BYTE_ACCURACY not in task._metric_fn_list:
                task._metric_fn_list[BYTE_ACCURACY] = get_metric(BYTE_ACCURACY)
                task._metric_fn_kwargs[BYTE_ACCURACY] = {}
                task._aggregation_list[BYTE_ACCURACY] = get_metric_aggregation(BYTE_ACCURACY)
                task._higher_is_better[BYTE_ACCURACY] = is_higher_better(BYTE_ACCURACY)
        return loaded


def run_tasks(
    lm: HarnessLM, tasks: Sequence[str], manager: TaskManager | None = None, **options: Any
) -> dict[str, dict[str, Any]]:
    """The metrics of harness tasks by name; `options` are those of the harness's `simple_evaluate`.

    The harness's own tasks, or also those of a directory of YAML files: `ByteTaskManager(include_path=directory)`.
    """
    manager = manager or ByteTaskManager()
    names = find_tasks(tasks, manager)
    found: Any = simple_evaluate(lm, tasks=[*names], task_manager=manager, log_samples=False, **options)
    return found["results"]


def find_tasks(tasks: Iterable[str], manager: TaskManager) -> list[str]:
    """The names, each once: `a,b` are two, `mmlu_*` all that match, `x.yaml` the file of a task.

    Raises ConfigError if there are none, or if the harness does not know one.
    """
    found: list[str] = []
    for name in [name for given in tasks for name in given.split(",") if name]:
        matches = [name] if name in manager.all_tasks or name.endswith(".yaml") else manager.match_tasks([name])
        if not matches:
            near = difflib.get_close_matches(name, manager.all_tasks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"the harness knows no task {name!r}{hint}")
        found += matches
    if not found:
        raise ConfigError("name at least one task, such as hellaswag")
    return list(dict.fromkeys(found))


def _without_effect(options: dict[str, Any]) -> list[str]:
    """The given options that have no effect."""
    return [
        name
        for name, values in NO_EFFECT.items()
        if name in options and (values is None or options[name] is None or options[name] in values)
    ]


def _arguments(request: Instance) -> tuple[Any, ...]:
    return request.args


def byte_writer(model: HNetLM, batch_size: int = BATCH_SIZE) -> Write:
    """Continues prompts with a byte model, `batch_size` at once."""
    limits = EngineLimits(max_active=batch_size)

    def write(prompts: Sequence[tuple[bytes, SamplingParams]]) -> list[str]:
        engine = Engine(model, limits)
        texts = {engine.submit(Request(prompt, params)): "" for prompt, params in prompts}
        while engine.has_work:
            for event in engine.step():
                texts[event.handle] += event.text
        return list(texts.values())

    return write

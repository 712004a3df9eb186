"""The model in the LM Evaluation Harness: the class that its tasks talk to, registered as `hnet-lm`.

    import hnet_lm.evaluation.harness
    lm_eval.simple_evaluate("hnet-lm", {"path": "runs/demo"}, tasks=["hellaswag"])

Importing this module registers the name. What differs from a model of tokens: BOS stands in front of every text; prompt
and continuation are split exactly where the task splits them, since bytes do not merge across the split; nothing is
truncated, because the state is carried through texts of any length; and a task's budget of tokens is turned into bytes.
A leaf: the only file that needs `lm_eval`.
"""

from collections.abc import Callable, Sequence
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
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation.byte_scorer import ByteScorer
from hnet_lm.evaluation.scorer import Passage, Scorer
from hnet_lm.generation import Engine, EngineLimits, Request, SamplingParams
from hnet_lm.model import HNetLM

BATCH_SIZE = 16
BYTES_PER_TOKEN = 5  # about what a byte-pair token of English holds, rounded up
BYTE_ACCURACY = "acc_bytes"

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
        prompts = [
            (context.encode(), self._params(options, seed))
            for seed, (context, options) in enumerate(map(_arguments, requests))
        ]
        return self._remember("generate_until", requests, self.write(prompts))

    def _params(self, options: dict[str, Any], seed: int) -> SamplingParams:
        """The harness's generation options as ours; greedy unless sampling is asked for."""
        given: dict[str, Any] = {"temperature": 0.0} | normalize_gen_kwargs(options)
        given.pop("do_sample", None)
        num_tokens = given.pop("max_gen_toks")
        stops = given.pop("until", None) or []
        return SamplingParams.from_options(
            max_new_bytes=round(num_tokens * self.bytes_per_token),
            stop=tuple(stop for stop in stops if stop),
            seed=seed,
            **given,
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
        loaded = super().load(*args, **kwargs)
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
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(f"the harness knows no task {unknown[0]!r}")
    found: Any = simple_evaluate(lm, tasks=list(tasks), task_manager=manager, log_samples=False, **options)
    return found["results"]


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

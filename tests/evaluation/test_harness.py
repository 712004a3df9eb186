"""Real harness tasks from local files give what direct computation gives, whatever the batch size."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.evaluator import simple_evaluate

from hnet_lm import generate, save
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation import ByteScorer, Passage, bits_per_byte
from hnet_lm.evaluation.harness import ByteTaskManager, HarnessLM, find_tasks, run_tasks
from hnet_lm.model import HNetLM

CHOICES = [
    {"prompt": "天地", "choices": ["玄黃", " ok", " something rather long"], "answer": 0},
    {"prompt": "The sky is", "choices": [" blue.", " a fish 🐟."], "answer": 1},
    {"prompt": "One, two,", "choices": [" three", " 3", " drei und vier"], "answer": 2},
    {"prompt": "A", "choices": ["b", "cde"], "answer": 0},
]
TEXTS = [{"text": "A first document, with an emoji 🤖."}, {"text": "宇宙洪荒"}, {"text": "x " * 100}]
STARTS = [{"text": "Once upon a"}, {"text": "def f("}, {"text": "天"}, {"text": "a longer prompt than those before it"}]

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
"""
MULTIPLE_CHOICE = """
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """
doc_to_text: ""
doc_to_target: text
metric_list:
  - metric: bits_per_byte
  - metric: byte_perplexity
"""
GENERATION = """
doc_to_text: text
doc_to_target: text
generation_kwargs:
  until: ["zz", "\\n"]
  max_gen_toks: 4
  do_sample: false
metric_list:
  - metric: exact_match
"""


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> ByteTaskManager:
    directory = tmp_path_factory.mktemp("tasks")
    for name, kind, rows, rest in [
        ("local_choice", "multiple_choice", CHOICES, MULTIPLE_CHOICE),
        ("local_rolling", "loglikelihood_rolling", TEXTS, ROLLING),
        ("local_generation", "generate_until", STARTS, GENERATION),
    ]:
        data = directory / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (directory / f"{name}.yaml").write_text(TASK.format(name=name, data=data, kind=kind) + rest)
    return ByteTaskManager(include_path=str(directory), include_defaults=False)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)


def direct_accuracy(model: HNetLM, size: Callable[[str], int]) -> float:
    right = 0
    for row in CHOICES:
        passages = [Passage(choice.encode(), row["prompt"].encode()) for choice in row["choices"]]
        scores = [next(ByteScorer(model).score([passage])) for passage in passages]
        normalised = [s.logprob / size(choice) for s, choice in zip(scores, row["choices"], strict=True)]
        right += normalised.index(max(normalised)) == row["answer"]
    return right / len(CHOICES)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_tasks_equal_direct_computation(model: HNetLM, manager: ByteTaskManager, batch_size: int) -> None:
    lm = HarnessLM.of_model(model, batch_size=batch_size)
    found = run_tasks(lm, ["local_choice", "local_rolling"], manager, bootstrap_iters=10)
    choice, rolling = found["local_choice"], found["local_rolling"]
    assert choice["acc,none"] == direct_accuracy(model, lambda choice: 1)
    assert choice["acc_norm,none"] == direct_accuracy(model, len)
    assert choice["acc_bytes,none"] == direct_accuracy(model, lambda choice: len(choice.encode()))
    texts = [row["text"].encode() for row in TEXTS]
    expected = bits_per_byte(ByteScorer(model), {"": texts}).value
    assert rolling["bits_per_byte,none"] == pytest.approx(expected, abs=1e-6)
    assert rolling["byte_perplexity,none"] == pytest.approx(2**expected, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_generation_equals_generate(model: HNetLM, manager: ByteTaskManager, batch_size: int) -> None:
    lm = HarnessLM.of_model(model, batch_size=batch_size, bytes_per_token=2)
    results: Any = simple_evaluate(lm, tasks=["local_generation"], task_manager=manager, bootstrap_iters=10)
    written = [sample["resps"][0][0] for sample in results["samples"]["local_generation"]]
    prompts = [row["text"] for row in STARTS]
    assert written == generate(model, prompts, max_new_bytes=8, temperature=0.0, stop=("zz", "\n"))
    assert results["results"]["local_generation"]["exact_match,none"] == 0.0


def request(kind: str, *arguments: object) -> Instance:
    return Instance(kind, {}, arguments, 0)  # pyright: ignore[reportArgumentType]  kind is a Literal there


def test_the_registered_class_loads_a_saved_model(make_model: Callable[..., HNetLM], tmp_path: Path) -> None:
    model = make_model(["m1", ["T1"], "m1"]).float()
    save(model, tmp_path / "saved")
    lm = get_model("hnet-lm").create_from_arg_string(
        f"path={tmp_path / 'saved'},dtype=float64", {"batch_size": "auto", "device": "cpu", "max_batch_size": None}
    )
    found = lm.loglikelihood([request("loglikelihood", "", "text"), request("loglikelihood", "te", "xt")])
    scores = list(ByteScorer(model.double()).score([Passage(b"text"), Passage(b"xt", b"te")]))
    assert found == [(pytest.approx(score.logprob), score.is_greedy) for score in scores]
    model.float()
    with pytest.raises(ConfigError, match="need path=DIRECTORY"):
        get_model("hnet-lm").create_from_arg_string("")


def test_options_of_one_request(model: HNetLM) -> None:
    lm = HarnessLM.of_model(model)
    params = lm._params({"until": "\n", "max_new_tokens": 3, "do_sample": True, "temperature": 0.7, "top_p": 0.9}, 5)
    assert (params.stop_bytes, params.max_new_bytes, params.temperature, params.top_p) == ((b"\n",), 15, 0.7, 0.9)
    assert lm._params({"until": [""]}, 0).temperature == 0.0
    with pytest.raises(ConfigError, match="num_beams"):
        lm._params({"num_beams": 4}, 0)


@pytest.mark.parametrize("options", [{"num_beams": 1, "early_stopping": True}, {"top_k": -1, "use_cache": None}])
def test_options_that_change_nothing_are_passed_over(options: dict[str, Any], model: HNetLM) -> None:
    lm = HarnessLM.of_model(model)
    plain = {"until": ["x"], "do_sample": False}
    assert lm._params(plain | options, 5) == lm._params(plain, 5)


def test_what_is_passed_over_is_said_once_and_names_the_task(model: HNetLM, caplog: pytest.LogCaptureFixture) -> None:
    asked = [
        Instance("generate_until", {}, ("a", {"num_beams": 1, "max_gen_toks": 1}), 0, ("mine", i, 1)) for i in (0, 1)
    ]
    assert len(HarnessLM.of_model(model).generate_until(asked)) == 2
    said = [record.message for record in caplog.records]
    assert said == ["task mine: num_beams has no effect on this model and is ignored"]


def test_what_cannot_be_done_names_the_task(model: HNetLM) -> None:
    for options, says in ({"num_beams": 4}, "num_beams: 4 is not possible"), ({"temprature": 1}, "'temperature'"):
        asked = Instance("generate_until", {}, ("a", options), 0, ("mine", 0, 1))
        with pytest.raises(ConfigError, match=f"^task mine: .*{says}"):
            HarnessLM.of_model(model).generate_until([asked])


def test_a_tasks_own_seed_and_sampling_count(model: HNetLM) -> None:
    lm = HarnessLM.of_model(model)
    assert lm._params({"do_sample": True, "temperature": 0.5, "seed": 3}, 7).seed == 3
    assert lm._params({"do_sample": True, "temperature": 0.5}, 7).seed == 7
    assert lm._params({"do_sample": True}, 7).temperature == 1.0
    assert lm._params({"do_sample": False, "temperature": 0.9}, 7).temperature == 0.0


def test_tasks_are_named_as_in_the_harness_itself(manager: ByteTaskManager) -> None:
    assert find_tasks(["local_rolling,local_choice", "local_choice"], manager) == ["local_rolling", "local_choice"]
    assert find_tasks(["local_*"], manager) == ["local_choice", "local_generation", "local_rolling"]
    for none in ([], ["", ","]):
        with pytest.raises(ConfigError, match="name at least one task"):
            find_tasks(none, manager)
    with pytest.raises(ConfigError, match=r"no task 'local_coice'; did you mean 'local_choice'\?"):
        find_tasks(["local_coice"], manager)


def test_unknown_task(model: HNetLM, manager: ByteTaskManager) -> None:
    with pytest.raises(ConfigError, match="no task 'local_coice'"):
        run_tasks(HarnessLM.of_model(model), ["local_coice"], manager)


def test_a_rolling_text_is_never_cut(model: HNetLM) -> None:
    text = "all of it. " * 60
    (found,) = HarnessLM.of_model(model).loglikelihood_rolling([request("loglikelihood_rolling", text)])
    expected = bits_per_byte(ByteScorer(model), {"": [text.encode()]}).value * len(text) * math.log(2)
    assert found == pytest.approx(-expected)

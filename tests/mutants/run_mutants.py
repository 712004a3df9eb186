"""Mutation testing: a random sample of one-token slips in the package, each against the tests nearest to its file.

    run_mutants.py [--sample 400] [--seed 0] [--limit N]    try what has not been tried: it may be stopped
    run_mutants.py --again                                  try the survivors again, as after a test was written
    run_mutants.py --report                                 the share killed, and the survivors as diffs

Mutants are cosmic-ray's, of every file outside the kernels (ops/ and generation/stepper/cpu/). A place is drawn first
and then one of the mutants there: of the 11 operators that may stand for a minus, one. They are made in a copy of the
last commit, build/mutants/tree, and results.jsonl beside it has a line for each. A test process is forked from one that
has imported the libraries but not the package, so that a mutant costs little more than its tests.
"""

import argparse
import ast
import difflib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation
from nearest_tests import nearest_tests

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "mutants"
TREE, RESULTS = FOLDER / "tree", FOLDER / "results.jsonl"
PACKAGE = Path("src", "hnet_lm")
KERNELS = ("ops/", "generation/stepper/cpu/")
LIBRARIES = (
    "torch", "numba", "numpy", "pyarrow.parquet", "tokenizers", "zstandard", "safetensors.torch", "matplotlib",
    "pytest", "hypothesis", "jaxtyping", "beartype", "fastapi", "uvicorn", "httpx", "openai", "rich", "tyro",
)  # fmt: skip
SLOWER, LEAST_SECONDS = 5, 30
"""A mutant may take so many times the CPU time of the tests as they are, and at least so many seconds."""
LONGEST_WALL = 1800
Mutant = dict[str, Any]


def make_tree() -> None:
    """A copy of the last commit, with the machine code that is already compiled."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", TREE], input=archive, check=True)
    for code in (ROOT / PACKAGE).rglob("*.nb[ci]"):
        target = TREE / code.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(code, target)


def places() -> Iterator[list[Mutant]]:
    """The mutants of every place, file by file."""
    kinds = [(name, cosmic_ray.plugins.get_operator(name)) for name in sorted(cosmic_ray.plugins.operator_names())]
    operators = [(name, kind()) for name, kind in kinds if not kind.arguments()]
    for path in sorted((TREE / PACKAGE).rglob("*.py")):
        module = str(path.relative_to(TREE / PACKAGE))
        if module.startswith(KERNELS):
            continue
        hints = _hints(path.read_text())
        nodes = list(ast_nodes(get_ast_from_path(path)))
        found: dict[tuple[int, int], list[Mutant]] = {}
        for name, operator in operators:
            positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
            for occurrence, start in enumerate(positions):
                if not any(first <= start <= last for first, last in hints):
                    mutant = {"module": module, "line": start[0], "operator": name, "occurrence": occurrence}
                    found.setdefault(start, []).append(mutant)
        yield from found.values()


def _hints(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where type annotations stand: a slip there is found at the import, or never."""
    hints = []
    for node in ast.walk(ast.parse(source)):
        for field in ("annotation", "returns"):
            hint = getattr(node, field, None)
            if isinstance(hint, ast.expr):
                end = (hint.end_lineno or hint.lineno, hint.end_col_offset or hint.col_offset)
                hints.append(((hint.lineno, hint.col_offset), end))
    return hints


def tests_pass(tests: tuple[str, ...], seconds: float | None, output: Path) -> tuple[bool, float]:
    """Whether they do, in a fork that may use so much CPU time, and how much it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            if seconds is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.chdir(TREE)
            os.environ["PYTHONPATH"] = str(TREE / "src")
            sys.path[:0] = [str(TREE / "src")]
            code = int(
                pytest.main(
                    ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "--tb=line", *tests]
                )
            )
        finally:
            os._exit(code)
    code = _wait(pid)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return code == 0, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _wait(pid: int) -> int:
    give_up = time.monotonic() + LONGEST_WALL
    while time.monotonic() < give_up:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def key_of(mutant: Mutant) -> str:
    return f"{mutant['module']} {mutant['operator']} {mutant['occurrence']}"


def results() -> dict[str, Mutant]:
    """The last result of each mutant."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {key_of(result): result for result in map(json.loads, lines)}


def try_mutants(sample: int, seed: int, limit: int, again: bool) -> None:
    make_tree()
    for library in LIBRARIES:
        __import__(library)
    sys.modules["torch"].set_num_threads(1)
    rng, tried = random.Random(seed), results()
    if again:
        chosen = [result for result in tried.values() if result["survived"]]
    else:
        chosen = [rng.choice(mutants) for mutants in rng.sample(list(places()), sample)]
        chosen = [mutant for mutant in chosen if key_of(mutant) not in tried]
    seconds_of: dict[tuple[str, ...], float] = {}
    for mutant in chosen[:limit]:
        tests = nearest_tests(mutant["module"])
        output = FOLDER / "output.txt"
        if tests not in seconds_of:
            passed, seconds_of[tests] = tests_pass(tests, None, output)
            if not passed:
                raise SystemExit(f"{' '.join(tests)} fail without a mutant: {output}")
        path = TREE / PACKAGE / mutant["module"]
        operator = cosmic_ray.plugins.get_operator(mutant["operator"])()
        with use_mutation(path, operator, mutant["occurrence"]) as (plain, mutated):
            allowed = max(LEAST_SECONDS, SLOWER * seconds_of[tests])
            survived, seconds = tests_pass(tests, allowed, output)
        lines = difflib.unified_diff(plain.splitlines(), mutated.splitlines(), lineterm="", n=0)
        diff = "\n".join(line for line in lines if not line.startswith(("---", "+++")))
        result = {**mutant, "survived": survived, "seconds": round(seconds, 1), "diff": diff}
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print("survived" if survived else "killed", f"{seconds:5.1f} s", key_of(mutant), flush=True)


def report() -> None:
    found = list(results().values())
    survivors = [result for result in found if result["survived"]]
    print(f"{len(found)} mutants, {len(found) - len(survivors)} killed ({1 - len(survivors) / len(found):.1%})")
    for result in sorted(survivors, key=key_of):
        print(f"\n{key_of(result)}\n{result['diff']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=400, help="mutants drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="try only so many further ones of the sample")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if arguments.report:
        report()
    else:
        try_mutants(arguments.sample, arguments.seed, arguments.limit, arguments.again)


if __name__ == "__main__":
    main()

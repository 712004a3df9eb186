"""Fuzzes the parsers with coverage (atheris): `run_fuzzers.py [--seconds 30] [--jobs 1] [NAME ...]`.

Each parser has a harness, `fuzz_NAME.py`: `check(data)` raises for what a parser may not do, `SEEDS` and the files of
`corpus/NAME` are inputs to begin with. What is found is kept below build/fuzz/NAME, so that a further call goes on from
there. The log names an input that fails. The exit code is 1 if any parser failed.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
FOUND = FOLDER.parents[1] / "build" / "fuzz"
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py"))
LONGEST_INPUT, LONGEST_CHECK, MOST_MEMORY = 4096, 20, 4096  # bytes, seconds, MB


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one parser in a process of its own; the exit code."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    log = found.with_suffix(".log")
    with log.open("w") as output:
        command = [sys.executable, str(FOLDER / "harness_process.py"), name, str(found), str(FOLDER / "corpus" / name)]
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={LONGEST_CHECK}",
            f"-rss_limit_mb={MOST_MEMORY}",
            f"-artifact_prefix={found}-failed-",
            "-print_final_stats=1",
        ]
        code = subprocess.run([*command, *options], stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    said = log.read_text(errors="replace").splitlines()
    executed = [line.split()[-1] for line in said if line.startswith("stat::number_of_executed_units")]
    print(
        f"{name}: {'fine' if code == 0 else f'FAILED ({log})'}, {executed[-1] if executed else '?'} inputs", flush=True
    )
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=30, help="of each parser")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = list(pool.map(lambda name: fuzz(name, arguments.seconds), arguments.names or NAMES))
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())

"""One fuzzer. `harness_process.py NAME FOUND CORPUS [options of libFuzzer]`; run_fuzzers.py calls it.

Only what parses is instrumented: numba reads the bytecode of the compiled loops, and nothing is parsed there.
"""

import hashlib
import importlib
import sys
from pathlib import Path

import atheris

PARSERS = ["hnet_lm", "tomllib"]
NOT_PARSERS = ["hnet_lm", "tomllib"]


def main(name: str, found: str, corpus: str, *options: str) -> None:
    with atheris.instrument_imports(include=PARSERS, exclude=NOT_PARSERS):
        harness = importlib.import_module(f"fuzz_{name}")
    for number, seed in enumerate(harness.SEEDS):
        Path(found, f"seed-{number}").write_bytes(seed)

    def check(data: bytes) -> None:
        try:
            harness.check(data)
        except BaseException:
            failed = Path(f"{found}-failed-{hashlib.sha256(data).hexdigest()[:12]}")
            failed.write_bytes(data)
            print(f"failed: {failed}", flush=True)
            raise

    atheris.Setup([sys.argv[0], *options, found, *([corpus] if Path(corpus).is_dir() else [])], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

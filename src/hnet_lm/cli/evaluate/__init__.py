"""`hnet-lm evaluate NAME`: measure a saved model, or compare the curves of runs; by a measure of one's own as well."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation
from hnet_lm.registry import Kind

EVALUATIONS: Kind[Evaluation] = Kind(
    "evaluation",
    "hnet_lm.evaluation.evaluation:Evaluation",
    "hnet_lm.evaluations",
    {
        "bpb": "hnet_lm.cli.evaluate.bits_per_byte:EvaluateBitsPerByte",
        "robustness": "hnet_lm.cli.evaluate.robustness:EvaluateRobustness",
        "dna": "hnet_lm.cli.evaluate.dna:EvaluateDna",
        "harness": "hnet_lm.cli.evaluate.harness:EvaluateHarness",
        "curves": "hnet_lm.cli.evaluate.curves:EvaluateCurves",
    },
    UserError,
)


def parse(arguments: Sequence[str], cli: Callable[..., Any]) -> Evaluation:
    """The named evaluation, filled from the arguments behind its name. Raises UserError."""
    match arguments:
        case ["-h" | "--help", *_]:
            print(_help())
            sys.exit()
        case [name, *rest] if not name.startswith("-"):
            return cli(EVALUATIONS.find(name, "evaluate"), args=rest, prog=f"hnet-lm evaluate {name}")
    raise UserError(f"evaluate: name what to measure: {', '.join(EVALUATIONS)}; see hnet-lm evaluate --help")


def _help() -> str:
    named = {name: EVALUATIONS.find(name, "evaluate").__doc__ or "" for name in EVALUATIONS}
    width = max(map(len, named))
    rows = "\n".join(f"  {name:{width}}  {' '.join(text.split())}" for name, text in named.items())
    return (
        "usage: hnet-lm evaluate NAME [arguments]\n\n"
        f"{rows}\n\n"
        "hnet-lm evaluate NAME --help lists its arguments; one of your own is named MODULE:CLASS."
    )

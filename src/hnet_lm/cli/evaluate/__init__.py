"""`hnet-lm evaluate NAME`: measure a saved model, or compare the curves of runs; by a measure of one's own as well."""

from hnet_lm.cli.group import Group
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation
from hnet_lm.registry import Kind

EVALUATIONS: Kind[Evaluation] = Kind(
    "evaluation",
    "hnet_lm.evaluation.evaluation:Evaluation",
    "hnet_lm.evaluations",
    {
        "bpb": "hnet_lm.cli.evaluate.bits_per_byte:EvaluateBitsPerByte",
        "boundaries": "hnet_lm.cli.evaluate.boundaries:EvaluateBoundaries",
        "robustness": "hnet_lm.cli.evaluate.robustness:EvaluateRobustness",
        "dna": "hnet_lm.cli.evaluate.dna:EvaluateDna",
        "harness": "hnet_lm.cli.evaluate.harness:EvaluateHarness",
        "curves": "hnet_lm.cli.evaluate.curves:EvaluateCurves",
    },
    UserError,
)

parse = Group("evaluate", EVALUATIONS, "what to measure").parse

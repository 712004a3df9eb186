"""`hnet-lm evaluate bpb|boundaries|robustness|dna|harness|curves`: measure a saved model, or compare curves of runs."""

from typing import Annotated

import tyro

from hnet_lm.cli.evaluate.bits_per_byte import EvaluateBitsPerByte
from hnet_lm.cli.evaluate.boundaries import EvaluateBoundaries
from hnet_lm.cli.evaluate.curves import EvaluateCurves
from hnet_lm.cli.evaluate.dna import EvaluateDna
from hnet_lm.cli.evaluate.harness import EvaluateHarness
from hnet_lm.cli.evaluate.robustness import EvaluateRobustness

Command = (
    Annotated[EvaluateBitsPerByte, tyro.conf.subcommand("bpb")]
    | Annotated[EvaluateBoundaries, tyro.conf.subcommand("boundaries")]
    | Annotated[EvaluateRobustness, tyro.conf.subcommand("robustness")]
    | Annotated[EvaluateDna, tyro.conf.subcommand("dna")]
    | Annotated[EvaluateHarness, tyro.conf.subcommand("harness")]
    | Annotated[EvaluateCurves, tyro.conf.subcommand("curves")]
)

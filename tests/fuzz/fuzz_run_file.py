"""Run files (TOML): a run, or a refusal; what is read survives its way through a checkpoint's JSON."""

import json

from refusals import file_of, read_or_refused

from hnet_lm.tables import to_table
from hnet_lm.training.config import RunConfig

SEEDS = (
    b"""[run]
directory = "runs/a"
num_steps = 10
seed = 1
precision = "float32"
[model]
config = "model.json"
[data]
sources = [{path = "a.jsonl", weight = 2.0, format = "jsonl", field = "text"}]
tokens_per_batch = 96
max_length = 48
[loss]
target_ratios = [3.0]
[optimizer]
lr = 2e-3
betas = [0.9, 0.95]
[schedule]
warmup = 0.2
[checkpoints]
every = 2
keep = 2
[logging]
every = 1
""",
    b"""run = {directory = "~/a", num_steps = 1}
model = {init_from = "runs/b"}
data = {sources = [{path = "g.fa", fasta = {window = 100, n_runs = "keep", reverse_complement = true}}]}
validation = {sources = [{path = "sample:english", split = "validation"}], every = 5, max_bytes = 100}
""",
)


def check(data: bytes) -> None:
    run = read_or_refused(lambda: RunConfig.load(file_of(data, "run.toml")))
    if run is not None:
        json.dumps(to_table(run))

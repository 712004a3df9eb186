"""A run begins to write: its folder is its own from here on, with the newest good model, the tokenizer and the log."""

from pathlib import Path

from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.tables import to_table
from hnet_lm.training.checkpoints import publish
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.metrics import MetricsLog, Tracked, open_tracker
from hnet_lm.training.progress import Reporter
from hnet_lm.training.run import Run
from hnet_lm.training.run_folder import METRICS, RunFolder, replace_file


def begin(run: Run, folder: RunFolder, reporter: Reporter) -> MetricsLog | None:
    """From here on the run writes into its folder; the log is the first rank's."""
    log = None

    def begin_on_first() -> None:
        nonlocal log
        if run.last_good is not None:
            publish(run.last_good, run.directory)  # a kill may have come before this was done
        elif (run.directory / METRICS).exists():
            reporter.say("the run in this folder ended before its first checkpoint; it begins anew", "yellow")
        if run.config.data.tokenizer:
            keep_tokenizer(run)
        log = _open_log(run, folder, reporter)
        folder.begin()

    run.ranks.on_first(begin_on_first)
    return log


def keep_tokenizer(run: Run) -> None:
    """A model of tokens is whole with its tokenizer next to it. Raises TrainingError where there is another one."""
    source, path = Path(run.config.data.tokenizer), run.directory / TOKENIZER
    data = source.read_bytes()
    if not path.exists():
        replace_file(path, data)
    elif path.read_bytes() != data:
        raise TrainingError(f"{path}: is another tokenizer than data.tokenizer ({source}); take another run.directory")


def _open_log(run: Run, folder: RunFolder, reporter: Reporter) -> MetricsLog:
    logging, step = run.config.logging, run.state.step
    tracked = Tracked(logging.project, run.directory, folder.run_id, to_table(run.config), step + 1)
    trackers = [open_tracker(name, tracked) for name in logging.trackers]

    def say(message: str) -> None:
        reporter.say(message, "yellow")

    return MetricsLog(run.directory / METRICS, trackers, keep_until=step if step else -1, say=say)

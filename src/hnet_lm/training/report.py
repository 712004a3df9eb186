"""`report.md`, `loss.png` and the model card: what came of a run, for people, in its folder."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.model_card import CARD, ModelCard, card_for, num_parameters
from hnet_lm.training.metrics import Record, read_metrics
from hnet_lm.training.run import Run
from hnet_lm.training.run_folder import FIGURE, METRICS, REPORT, replace_file
from hnet_lm.training.saving import writing

SHOWN_WARNINGS = 5


def write_report(run: Run) -> str:
    """Write them into the run's folder; a line about a figure that is not as it should be, or none. A README.md of
    somebody's own stays.

    Raises CannotWrite.
    """
    records = read_metrics(run.directory / METRICS)
    note = _draw(run, records)
    replace_file(run.directory / REPORT, report(run, records, note).encode("utf-8", "replace"))
    with writing(run.directory / CARD):
        card = card_for(run.directory, run.model.config, card_of(run, records))
    replace_file(run.directory / CARD, card)
    return note


def card_of(run: Run, records: Sequence[Record]) -> ModelCard:
    """What the run knows of its model."""
    state, data = run.state, run.config.data
    facts = {
        "training data": ", ".join(_source_name(source.path) for source in data.sources),
        "trained on": f"{state.bytes_seen:,} bytes, in {state.step:,} updates",
    }
    if state.best_bits_per_byte is not None:
        facts["bits per byte, held-out text"] = f"{_rounded(state.best_bits_per_byte)} (step {state.best_step:,})"
    updates = [record for record in records if record.get("loss") is not None]
    if updates:
        for stage in range(run.model.config.num_stages):
            size, length = updates[-1][f"stage{stage}/bytes_per_chunk"], updates[-1][f"stage{stage}/chunk_length_mean"]
            facts[f"chunks of stage {stage}"] = f"{size:.2f} bytes, {length:.2f} positions each, in the last record"
    return ModelCard(facts)


def _source_name(path: str) -> str:
    """A sample or an address as it is; of a path its last part, since a card is for others."""
    return path if ":" in path else Path(path).name


def _draw(run: Run, records: Sequence[Record]) -> str:
    try:
        figure = import_leaf("hnet_lm.training.figure", "plot", f"drawing {FIGURE}")
    except UserError as error:
        return f"{error}"
    name = run.directory.resolve().name
    missing = figure.save_figure(records, run.directory / FIGURE, run.config.loss.target_ratios, name)
    return _boxes_note(missing) if missing else ""


def _boxes_note(missing: str) -> str:
    figures: ModuleType = import_leaf("hnet_lm.figures", "plot", f"drawing {FIGURE}")
    return f"{FIGURE}: {figures.boxes_note(missing)}"


def report(run: Run, records: Sequence[Record], note: str = "") -> str:
    """The text, in Markdown."""
    state, name = run.state, run.directory.resolve().name
    is_done = "finished" if run.is_finished else f"stopped; the same command goes on to step {run.config.num_steps:,}"
    lines = [f"# {name}", "", f"{state.step:,} updates on {state.bytes_seen:,} bytes of text, {is_done}.", ""]
    lines += _table([("", ""), *_facts(run, records)])
    has_picture = (run.directory / FIGURE).exists()
    lines += ["", f"![bits per byte and bytes per chunk]({FIGURE})" if has_picture else ""]
    if note:
        lines += ["", f"{note}."]
    validations = [record for record in records if "validation/bits_per_byte" in record]
    if len(validations) > 1:
        rows = [(f"{record['step']:,}", _rounded(record["validation/bits_per_byte"])) for record in validations]
        lines += ["", "## Validations", "", *_table([("step", "bits per byte"), *rows])]
    samples = [record["sample"] for record in validations if record.get("sample")]
    if samples:
        lines += ["", "## The last sample", "", *(f"    {line}" for line in samples[-1].splitlines())]
    warnings = [f"- step {record['step']:,}: {record['warning']}" for record in records if "warning" in record]
    if warnings:
        more = [f"- and {len(warnings) - SHOWN_WARNINGS} more"] if len(warnings) > SHOWN_WARNINGS else []
        lines += ["", "## Router health", "", *warnings[:SHOWN_WARNINGS], *more]
    lines += ["", "## Going on", "", *_commands(run)]
    return "\n".join(lines) + "\n"


def _facts(run: Run, records: Sequence[Record]) -> list[tuple[str, str]]:
    state, config = run.state, run.config
    facts = [("parameters", f"{num_parameters(run.model.config):,}"), ("minutes", f"{run.elapsed / 60:.2f}")]
    if config.lora.is_on:
        trained = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
        facts.insert(1, (f"trained with LoRA, rank {config.lora.rank}", f"{trained:,}"))
    updates = [record for record in records if record.get("loss") is not None]
    if state.best_bits_per_byte is not None:
        value = f"{_rounded(state.best_bits_per_byte)} (step {state.best_step:,})"
        facts.append(("bits per byte, held-out text, best", value))
    if updates:
        last = updates[-1]
        facts.append(("bits per byte, training, last record", _rounded(last["bits_per_byte"])))
        for stage, target in enumerate(config.target_ratios(run.model.config)):
            aim = "" if target is None else f", target {target:g}"
            length = last[f"stage{stage}/chunk_length_mean"]
            size = last[f"stage{stage}/bytes_per_chunk"]
            facts.append((f"stage {stage}", f"{size:.2f} bytes per chunk; {length:.2f} positions per chunk{aim}"))
        facts.append(("bytes per second, last record", f"{last['bytes_per_second']:,.0f}"))
    facts.append(("updates skipped, not finite", f"{state.skipped_steps:,}"))
    if state.decay_step is not None and config.checkpoints.before_decay:
        facts.append(("checkpoint before the decay", f"`checkpoints/step_{state.decay_step:08d}`"))
    if state.plan is not None:
        facts.append(("the same run again", f"`{state.plan.options(run.asked)}`"))
    return facts


def _commands(run: Run) -> list[str]:
    directory = run.directory
    commands = [f'hnet-lm chunks {directory} "any text"', f"hnet-lm serve {directory}"]
    if not run.model.config.reads_tokens:
        commands.insert(0, f'hnet-lm generate {directory} "Once upon"')
    return ["```sh", *commands, "```"]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    heading, *others = [f"| {left} | {right} |" for left, right in rows]
    return [heading, "|---|---|", *others]


def _rounded(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"

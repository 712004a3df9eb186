"""Which tests stand nearest to a source file: those that a mutant of it is tried against. The longest prefix counts."""

DATA = "tests/data"
SERVING = (
    "tests/serving/test_completions.py",
    "tests/serving/test_refusals.py",
    "tests/serving/test_rates.py",
    "tests/serving/test_lifetimes.py",
    "tests/serving/test_connections.py",
    "tests/serving/test_clients.py",
    "tests/serving/test_embedding.py",
    "tests/serving/test_large_answers.py",
    "tests/serving/test_openapi.py",
)
DNA = ("tests/evaluation/test_dna.py", "tests/evaluation/test_dna_streams.py")
RUNS = (
    "tests/training/test_loop.py",
    "tests/training/test_metrics.py",
    "tests/training/test_run_checkpoints.py",
    "tests/training/test_run_folder.py",
    "tests/training/test_preflight.py",
)
MODEL = (
    "tests/model/test_layers.py",
    "tests/model/test_dynamic_chunking.py",
    "tests/model/test_lm.py",
    "tests/model/test_initialization.py",
    "tests/test_goldens.py",
    "tests/model/test_flops.py",
    "tests/model/test_precision.py",
    "tests/baselines/test_chunkers.py",
    "tests/laws/test_laws.py",
)
COMMANDS = ("tests/cli/test_main.py", "tests/cli/test_inputs_of_commands.py")
INSPECT = (
    "tests/inspect/test_model_chunks.py",
    "tests/inspect/test_characters.py",
    "tests/inspect/test_chunk_statistics.py",
)

NEAREST: dict[str, tuple[str, ...]] = {
    "baselines/": (
        "tests/baselines/test_families.py",
        "tests/baselines/test_chunkers.py",
        "tests/baselines/test_commands.py",
    ),
    "checkpoint.py": ("tests/test_checkpoint.py", "tests/test_malformed.py"),
    "chunker_config.py": (
        "tests/test_config.py",
        "tests/baselines/test_chunkers.py",
        "tests/baselines/test_families.py",
    ),
    "cli/": COMMANDS,
    "cli/architecture.py": ("tests/baselines/test_commands.py", "tests/cli/test_info.py"),
    "cli/chunks.py": ("tests/cli/test_chunks_command.py",),
    "cli/compare.py": ("tests/baselines/test_commands.py", "tests/cli/test_tables.py"),
    "cli/convert.py": ("tests/cli/test_convert.py",),
    "cli/demo.py": ("tests/cli/test_demo_command.py",),
    "cli/device.py": ("tests/cli/test_device.py",),
    "cli/evaluate/": ("tests/cli/test_evaluate_command.py", "tests/cli/test_inputs_of_commands.py"),
    "cli/generate.py": ("tests/cli/test_generate_command.py", "tests/cli/test_inputs_of_commands.py"),
    "cli/info.py": ("tests/cli/test_info.py",),
    "cli/loading.py": ("tests/cli/test_device.py", "tests/cli/test_generate_command.py"),
    "cli/match.py": ("tests/baselines/test_commands.py",),
    "cli/run_file.py": ("tests/baselines/test_commands.py",),
    "cli/serve.py": ("tests/serving/test_serve_command.py",),
    "cli/sources.py": ("tests/cli/test_evaluate_command.py", "tests/cli/test_inputs_of_commands.py"),
    "cli/tables.py": ("tests/cli/test_tables.py",),
    "cli/terminal.py": ("tests/cli/test_chunks_command.py", "tests/cli/test_tables.py"),
    "cli/train.py": ("tests/cli/test_main.py", "tests/training/test_run_file.py", "tests/training/test_preflight.py"),
    "config.py": ("tests/test_config.py", "tests/test_malformed.py"),
    "data/": (DATA,),
    "errors.py": ("tests/test_config.py", "tests/test_malformed.py"),
    "evaluation/": ("tests/evaluation/test_bits_per_byte.py", "tests/evaluation/test_byte_scorer.py"),
    "evaluation/boundaries.py": ("tests/evaluation/test_boundaries.py",),
    "evaluation/comparison": ("tests/baselines/test_commands.py",),
    "evaluation/curves": ("tests/evaluation/test_curves.py",),
    "evaluation/dna/": DNA,
    "evaluation/embeddings.py": ("tests/evaluation/test_embeddings.py",),
    "evaluation/harness.py": ("tests/evaluation/test_harness.py",),
    "evaluation/multiple_choice.py": ("tests/evaluation/test_robustness.py", "tests/evaluation/test_byte_scorer.py"),
    "evaluation/perturbations.py": ("tests/evaluation/test_robustness.py",),
    "evaluation/robustness.py": ("tests/evaluation/test_robustness.py",),
    "evaluation/token_scorer.py": ("tests/baselines/test_bpe.py",),
    "extras.py": ("tests/test_facade.py", "tests/cli/test_main.py"),
    "figures.py": ("tests/test_figures.py",),
    "generation/": (
        "tests/generation/test_params.py",
        "tests/generation/test_sampling.py",
        "tests/generation/test_utf8.py",
        "tests/generation/test_text_stream.py",
        "tests/generation/test_library.py",
        "tests/generation/test_events.py",
        "tests/generation/test_engine.py",
        "tests/generation/test_engine_pool.py",
        "tests/generation/test_pages.py",
        "tests/generation/test_rounded_weights.py",
    ),
    "generation/stepper/": ("tests/generation/test_pages.py", "tests/generation/stepper", "tests/laws/test_stepper.py"),
    "hub.py": ("tests/test_checkpoint.py",),
    "inputs/": ("tests/inputs", "tests/data/test_formats.py", "tests/data/test_data_errors.py"),
    "inspect/": INSPECT,
    "inspect/html.py": ("tests/inspect/test_html.py",),
    "inspect/png.py": ("tests/inspect/test_png.py",),
    "inspect/references.py": ("tests/inspect/test_references.py",),
    "inspect/bpe.py": ("tests/inspect/test_references.py",),
    "inspect/terminal.py": ("tests/inspect/test_terminal.py",),
    "layout.py": ("tests/test_config.py", "tests/test_malformed.py"),
    "losses.py": ("tests/test_losses.py", "tests/test_goldens.py"),
    "model/": MODEL,
    "model/sizes.py": ("tests/model/test_sizes.py", "tests/cli/test_info.py"),
    "model/padding.py": ("tests/model/test_lm.py", "tests/laws/test_padding_law.py"),
    "official.py": ("tests/test_official.py", "tests/test_malformed.py"),
    "outputs.py": ("tests/test_outputs.py",),
    "sequences.py": ("tests/test_sequences.py",),
    "serving/": SERVING,
    "serving/static": ("tests/serving/test_page.py",),
    "state.py": ("tests/test_state.py", "tests/laws/test_batched_decoding.py"),
    "training/": RUNS,
    "training/config.py": ("tests/training/test_run_file.py", "tests/training/test_preflight.py"),
    "training/tables.py": ("tests/training/test_run_file.py",),
    "training/checkpoints.py": ("tests/training/test_run_checkpoints.py", "tests/training/test_failing_disk.py"),
    "training/distributed.py": ("tests/training/test_distributed.py", *RUNS),
    "training/figure.py": ("tests/training/test_figure.py",),
    "training/freezing.py": ("tests/training/test_freezing.py",),
    "training/health.py": ("tests/training/test_health.py", "tests/training/test_metrics.py"),
    "training/optimizer.py": ("tests/training/test_optimizer.py",),
    "training/schedule.py": ("tests/training/test_schedule.py",),
    "training/step.py": ("tests/training/test_update.py", "tests/training/test_metrics.py"),
    "weights.py": ("tests/test_official.py", "tests/test_malformed.py", "tests/test_checkpoint.py"),
}


def nearest_tests(module: str) -> tuple[str, ...]:
    """For a path below src/hnet_lm. Raises LookupError for one that nothing is near to."""
    fitting = [prefix for prefix in NEAREST if module.startswith(prefix)]
    if not fitting:
        raise LookupError(f"no tests are named for {module}; add them to NEAREST")
    return NEAREST[max(fitting, key=len)]

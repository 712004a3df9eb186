"""`hnet-lm sweep`: every combination is trained once, goes on where it stopped, and stands in the table."""

import subprocess
from pathlib import Path

import pytest
from training_runs import losses, run_table, to_toml

from hnet_lm.cli import sweep
from hnet_lm.cli.main import main
from hnet_lm.training.metrics import read_metrics


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    table = run_table(tmp_path, run={"num_steps": 2}, loss={"target_ratios": [3.0]})
    (tmp_path / "small.toml").write_text(to_toml(table))
    return tmp_path / "small.toml"


def test_every_combination_is_trained_and_shown(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", str(run_file), "--set", "optimizer.lr=1e-3,2e-3", "schedule.warmup=0.0,0.5"]
    assert main(arguments) == 0
    folder = tmp_path / "run-sweep"
    names = [
        f"{i:02d}-lr={lr}-warmup={w}"
        for i, (lr, w) in enumerate([("1e-3", "0.0"), ("1e-3", "0.5"), ("2e-3", "0.0"), ("2e-3", "0.5")])
    ]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "sweep.md"]
    rates = [read_metrics(folder / name / "metrics.jsonl")[0]["lr"] for name in names]
    assert rates == [1e-3, 1e-3, 2e-3, 2e-3]
    assert len({tuple(losses(folder / name).values()) for name in names}) >= 2
    printed = capsys.readouterr().out
    table = (folder / "sweep.md").read_text()
    for name in names:
        assert name in printed
        assert f"| {name} | 2 |" in table
    assert table.count("finished") == 4
    modified = [(folder / name / "metrics.jsonl").stat().st_ino for name in names]
    assert main([*arguments, "--table"]) == 0
    assert [(folder / name / "metrics.jsonl").stat().st_ino for name in names] == modified


def test_a_stopped_sweep_goes_on(run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["sweep", str(run_file), "--set", "run.seed=0,1,2", "--output", str(tmp_path / "seeds")]
    plain, begun = sweep.train, []

    def train(config: object, *rest: object) -> object:
        begun.append(config)
        if len(begun) == 2:
            state = plain(config, *rest)
            state.num_steps = state.step + 1  # as a run that a signal stopped
            return state
        return plain(config, *rest)

    monkeypatch.setattr(sweep, "train", train)
    assert main(arguments) == 0
    assert len(begun) == 2
    assert not (tmp_path / "seeds" / "02-seed=2" / "metrics.jsonl").exists()
    monkeypatch.setattr(sweep, "train", plain)
    assert main(arguments) == 0
    found = [losses(tmp_path / "seeds" / f"{seed:02d}-seed={seed}") for seed in range(3)]
    assert [list(steps) for steps in found] == [[1, 2]] * 3
    assert found[0] != found[1]


def test_a_run_that_fails_does_not_end_the_others(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run-sweep" / "00-seed=0").mkdir(parents=True)
    (tmp_path / "run-sweep" / "00-seed=0" / "metrics.jsonl").write_text("mine")
    assert main(["sweep", str(run_file), "--set", "run.seed=0,1"]) == 1
    table = (tmp_path / "run-sweep" / "sweep.md").read_text().splitlines()
    assert "failed: " in table[2]
    assert "finished" in table[3]


def test_an_array_job_has_a_task_for_each_run(run_file: Path, tmp_path: Path) -> None:
    lists = "loss.target_ratios=2.5,4"
    assert main(["sweep", str(run_file), "--set", lists, "run.seed=0,1", "--slurm"]) == 0
    script = tmp_path / "run-sweep" / "sweep.sh"
    assert "#SBATCH --array=0-3" in script.read_text()
    fake = 'srun() { shift 2; printf \'%s\\n\' "$@"; }; exec() { "$@"; }; '
    for task in range(4):
        command = ["bash", "-c", f'{fake} SLURM_ARRAY_TASK_ID={task}; source "{script}"']
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert printed[0] == str(run_file)
        assert printed[1:5] == ["--loss.target-ratios", ["2.5", "4"][task // 2], "--run.seed", str(task % 2)]
        assert printed[5] == "--run.directory"
        assert Path(printed[6]).parent == tmp_path / "run-sweep"
    assert not (tmp_path / "run-sweep" / "00-target_ratios=2.5-seed=0").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lr", "must be KEY=V1,V2"),
        ("optimizer.lr=1e-3,", "must be KEY=V1,V2"),
        ("optimizer.rate=1e-3", "rate"),
        ("optimizer.lr=fast", "fast"),
        ("optimizer.lr=-1.0", "optimizer.lr: must be a number above 0"),
        ("run.directory=a,b", "--output"),
    ],
)
def test_mistakes_are_said_before_anything_is_trained(
    run_file: Path, tmp_path: Path, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(run_file), "--set", "run.seed=0,1", setting]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run-sweep").exists()

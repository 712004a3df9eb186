import json
import math
from pathlib import Path

import matplotlib.image
import pytest

from hnet_lm.errors import DataError
from hnet_lm.evaluation.curves import Curve, data_efficiency, read_curve
from hnet_lm.evaluation.curves_figure import save_figure

NUM_STEPS, DECAY_FROM, BYTES_A_STEP = 1000, 800, 4096


def bits(bytes_seen: float, speed: float) -> float:
    """A power law in the data; `speed` 2 reaches everything after half of it."""
    return 0.8 + 3 * (speed * bytes_seen) ** -0.1


def write_run(directory: Path, speed: float, num_steps: int = NUM_STEPS) -> Path:
    """A warm-up, a stable phase, a decay that takes 0.1 bits off at its end; validations between training records."""
    directory.mkdir()
    decay_from = num_steps * 8 // 10
    with (directory / "metrics.jsonl").open("w") as file:
        for step in range(10, num_steps + 1, 10):
            decayed = max(step - decay_from, 0) / (num_steps - decay_from)
            rate = 3e-4 * min(1, step / 100) * (1 - math.sqrt(decayed))
            record = {"step": step, "bytes_seen": step * BYTES_A_STEP, "bits_per_byte": 9.9, "lr": rate}
            print(json.dumps(record), file=file)
            if step % 20 == 0 and step < num_steps:
                decayed = max(step + 5 - decay_from, 0) / (num_steps - decay_from)
                value = bits((step + 5) * BYTES_A_STEP, speed) - 0.1 * decayed
                print(json.dumps({"step": step + 5, "validation/bits_per_byte": value}), file=file)
        last = bits(num_steps * BYTES_A_STEP, speed) - 0.1
        print(json.dumps({"step": num_steps, "validation/bits_per_byte": last, "sample": "text"}), file=file)
        file.write('{"step": 10')  # stopped while it wrote
    return directory


def test_reads_bytes_and_where_decay_begins(tmp_path: Path) -> None:
    curve = read_curve(write_run(tmp_path / "run", 1.0))
    assert curve.name == "run"
    assert curve.bytes_seen[0] == 25 * BYTES_A_STEP
    assert curve.bytes_seen[-1] == NUM_STEPS * BYTES_A_STEP
    assert curve.bytes_seen[curve.num_before_decay - 1] == 785 * BYTES_A_STEP
    assert read_curve(tmp_path / "run" / "metrics.jsonl").name == "run"
    assert set(read_curve(tmp_path / "run", "bits_per_byte").bits_per_byte) == {9.9}


@pytest.mark.parametrize("speed", [1.0, 1.9, 3.6])
def test_factor_before_decay_is_that_of_the_power_law(tmp_path: Path, speed: float) -> None:
    baseline, run = read_curve(write_run(tmp_path / "slow", 1.0)), read_curve(write_run(tmp_path / "fast", speed))
    there = data_efficiency(run, baseline, before_decay=True)
    back = data_efficiency(baseline, run, before_decay=True)
    assert there is not None
    assert back is not None
    assert there.factor == pytest.approx(speed, rel=0.01)
    assert back.factor == pytest.approx(1 / there.factor)
    assert there.level == pytest.approx(bits(785 * BYTES_A_STEP, 1.0))


@pytest.mark.parametrize("speed", [1.0, 1.9, 3.6])
def test_factor_after_decay_is_near_that_of_the_power_law(tmp_path: Path, speed: float) -> None:
    baseline, run = read_curve(write_run(tmp_path / "slow", 1.0)), read_curve(write_run(tmp_path / "fast", speed))
    there = data_efficiency(run, baseline, before_decay=False)
    back = data_efficiency(baseline, run, before_decay=False)
    assert there is not None
    assert back is not None
    assert there.level == pytest.approx(bits(NUM_STEPS * BYTES_A_STEP, 1.0) - 0.1)
    assert there.factor == pytest.approx(speed, rel=0.05)
    assert back.factor == pytest.approx(1 / there.factor)


def test_runs_that_do_not_meet(tmp_path: Path) -> None:
    slow, fast = read_curve(write_run(tmp_path / "slow", 1.0, 200)), read_curve(write_run(tmp_path / "fast", 1e9))
    assert data_efficiency(fast, slow, before_decay=True) is None
    assert slow.bytes_to_reach(0.1, before_decay=True) is None


def write_curve(directory: Path, values: list[float], rates: list[float]) -> Curve:
    directory.mkdir()
    records = [
        {"step": n, "bytes_seen": 1000 * n, "lr": rate, "validation/bits_per_byte": value}
        for n, (value, rate) in enumerate(zip(values, rates, strict=True), start=1)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_curve(directory)


def test_a_single_validation_is_a_curve(tmp_path: Path) -> None:
    one = write_curve(tmp_path / "one", [2.0], [1.0])
    assert one.bytes_to_reach(2.0, before_decay=True) == 1000
    assert one.bytes_to_reach(1.9, before_decay=True) is None
    more = write_curve(tmp_path / "more", [2.5, 2.0, 1.5], [1.0] * 3)
    found = data_efficiency(one, more, before_decay=True)
    assert found is not None
    assert (found.level, found.factor) == (2.0, pytest.approx(2.0))


def test_a_level_that_is_kept_is_reached_when_it_came(tmp_path: Path) -> None:
    flat = write_curve(tmp_path / "flat", [2.0, 2.0, 2.0], [1.0] * 3)
    assert flat.bytes_to_reach(2.0, before_decay=True) == 1000


def test_the_whole_length_counts_after_decay(tmp_path: Path) -> None:
    """Two runs of one curve that decay over other shares of their length; each ends where it ends."""
    for share in (1, 4):
        rates = [1.0] * (10 - share) + [0.5] * share
        values = [3 - 0.1 * n for n in range(10 - share)] + [1.9 - 0.1 * share] * share
        curve = write_curve(tmp_path / f"decay{share}", values, rates)
        end = curve.end(before_decay=False)
        assert curve.bytes_to_reach(end, before_decay=False) == pytest.approx(curve.bytes_seen[-1])


def test_a_noisy_curve_keeps_what_it_has_reached(tmp_path: Path) -> None:
    directory = tmp_path / "noisy"
    directory.mkdir()
    values = [3.0, 2.0, 2.5, 1.0]
    lines = [{"step": i, "bytes_seen": 10**i, "lr": 1.0, "validation/bits_per_byte": v} for i, v in enumerate(values)]
    (directory / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curve = read_curve(directory)
    assert curve.bytes_to_reach(3.0, before_decay=True) == pytest.approx(1)
    assert curve.bytes_to_reach(2.0, before_decay=True) == pytest.approx(10)
    assert curve.bytes_to_reach(1.5, before_decay=True) == pytest.approx(10**2.5)
    assert curve.bytes_to_reach(4.0, before_decay=True) is None


def test_figure(tmp_path: Path) -> None:
    curves = [read_curve(write_run(tmp_path / name, speed)) for name, speed in [("slow", 1.0), ("fast", 3.6)]]
    found = data_efficiency(curves[1], curves[0], before_decay=True)
    assert found is not None
    save_figure(curves, [found], tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").std() > 0.02


def test_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for text, complaint in [
        ('{"step": 1, "bytes_seen": 3, "lr": 1.0}', "has no values of 'validation/bits_per_byte'"),
        ('{"step": 1, "validation/bits_per_byte": 3}', "has no records of training"),
        ('nonsense\n{"step": 1}', "line 1: not JSON"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=complaint):
            read_curve(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_curve(tmp_path / "nowhere")

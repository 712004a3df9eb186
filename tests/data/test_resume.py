"""Stopped anywhere, going on exactly there: with any number of workers, from a state that went through JSON."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from data_corpora import is_same, random_texts, targets_by_document, write_jsonl

from hnet_lm.data import Batch, DataConfig, DataLoader, FastaConfig, SourceConfig
from hnet_lm.data.stream import Stream
from hnet_lm.errors import DataError
from hnet_lm.inputs import fingerprint

NUM_BATCHES = 60


@pytest.fixture
def config(corpus: Path) -> DataConfig:
    """Several sources, several epochs within the tested batches, blocks of four batches."""
    (corpus / "genome.fa").write_text(">a\n" + "ACGTNACCA\n" * 20 + ">b\n" + "GGTACA\n" * 9)
    (corpus / "book.txt").write_text("".join(random_texts(8, seed=9)))
    return DataConfig(
        sources=(
            SourceConfig(str(corpus / "part*.jsonl*"), weight=2.0),
            SourceConfig(str(corpus / "genome.fa"), fasta=FastaConfig(window=25, reverse_complement=True)),
            SourceConfig(str(corpus / "book.txt"), separator="\n", weight=0.5),
        ),
        tokens_per_batch=500,
        max_length=64,
        shuffle_bytes=2000,
        streams=4,
    )


def take(loader: DataLoader, number: int) -> list[Batch]:
    return list(itertools.islice(loader, number))


def through_json(loader: DataLoader) -> dict:
    return json.loads(json.dumps(loader.state_dict()))


@pytest.mark.parametrize("streams", [1, 4])
def test_next_batch_after_every_stop(config: DataConfig, streams: int) -> None:
    config = dataclasses.replace(config, streams=streams)
    with DataLoader(config) as unbroken:
        wanted = take(unbroken, NUM_BATCHES)
    state = None
    for number in range(NUM_BATCHES):
        with DataLoader(config) as resumed:
            if state is not None:
                resumed.load_state_dict(state)
            assert is_same(next(resumed), wanted[number])
            state = through_json(resumed)


def test_workers_do_not_change_the_order_and_stop_anywhere(config: DataConfig) -> None:
    with DataLoader(config) as unbroken:
        wanted = take(unbroken, NUM_BATCHES)
    state, done = None, 0
    for num_workers, steps in ((4, 13), (1, 9), (0, 7), (4, 1), (1, 30)):
        with DataLoader(dataclasses.replace(config, num_workers=num_workers)) as loader:
            if state is not None:
                loader.load_state_dict(state)
            for batch in take(loader, steps):
                assert is_same(batch, wanted[done]), (num_workers, done)
                done += 1
            state = through_json(loader)
    assert done == NUM_BATCHES


def test_nothing_is_repeated_or_left_out(config: DataConfig) -> None:
    """Over many stops: each place of each document comes once an epoch, and finished epochs are whole."""
    state, batches = None, []
    for steps in (1, 7, 20, 3, 120):
        with DataLoader(config) as loader:
            if state is not None:
                loader.load_state_dict(state)
            batches += take(loader, steps)
            state = through_json(loader)
    found = targets_by_document(batches)
    first_epoch = {key[2:]: places for key, places in found.items() if key[:2] == (0, 0)}
    later = {key[2:] for key in found if key[0] == 0 and key[1] >= 1}
    assert later, "the corpus was not read to its end"
    texts = {(file, record): text for file in range(3) for record, text in enumerate(random_texts(40, seed=file))}
    assert first_epoch.keys() == texts.keys()
    for document, places in first_epoch.items():
        targets = [*texts[document].encode(), 255]
        assert [places[place] for place in range(len(targets))] == targets
        assert len(places) == len(targets)


def test_a_killed_process_resumes_from_its_last_saved_state(config: DataConfig, tmp_path: Path) -> None:
    """SIGKILL in the middle of training with four workers; the state file is the last one written."""
    path = str(config.sources[0].path)
    script = f"""
import json, os
if __name__ == "__main__":
    from hnet_lm.data import DataConfig, DataLoader, SourceConfig
    config = DataConfig((SourceConfig({path!r}),), tokens_per_batch=500, max_length=64,
                        shuffle_bytes=2000, streams=4, num_workers=4)
    loader = DataLoader(config)
    for step, batch in enumerate(loader):
        with open("state.new", "w") as file:
            json.dump([step, loader.state_dict()], file)
        os.replace("state.new", "state.json")
        if step == 20:
            print("reached", flush=True)
"""
    (tmp_path / "run.py").write_text(script)
    process = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "reached\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    step, state = json.loads((tmp_path / "state.json").read_text())
    plain = dataclasses.replace(config, sources=(SourceConfig(path),))
    with DataLoader(plain) as unbroken, DataLoader(plain) as resumed:
        take(unbroken, step + 1)
        resumed.load_state_dict(state)
        for batch in take(unbroken, 10):
            assert is_same(next(resumed), batch)


def test_state_is_small_and_of_the_consumed_batch(config: DataConfig) -> None:
    with DataLoader(dataclasses.replace(config, num_workers=4)) as loader, DataLoader(config) as plain:
        take(loader, 11)
        take(plain, 11)
        assert loader.state_dict() == plain.state_dict()
        assert len(json.dumps(loader.state_dict())) < 10_000


def test_resuming_reads_no_more_than_a_block_again(tmp_path: Path) -> None:
    """What lies before the block is not even looked at: it is destroyed here."""
    path = write_jsonl(tmp_path / "corpus.jsonl", random_texts(200))
    config = DataConfig((SourceConfig(str(path)),), tokens_per_batch=500, max_length=64, shuffle_bytes=2000)
    with DataLoader(config) as loader:
        take(loader, 30)
        state = loader.state_dict()
        wanted = next(loader)
    begin = state["streams"][0]["mixture"]["sources"][0]["position"]["byte"]
    assert begin > 10_000
    with path.open("r+b") as file:
        file.write(b"#" * (begin - 1000))
    stream = Stream(config, 0, 256)  # the loader itself refuses a file that was changed
    stream.load_state_dict(state["streams"][0])
    arrays = stream.next()
    assert arrays is not None
    assert is_same(Batch.from_arrays(arrays), wanted)


def test_another_configuration_is_refused(config: DataConfig) -> None:
    with DataLoader(config) as loader:
        next(loader)
        state = through_json(loader)
    other = DataLoader(dataclasses.replace(config, seed=1, max_length=32))
    with pytest.raises(DataError, match=r"data.max_length, data.seed changed since the run was saved"):
        other.load_state_dict(state)


def test_another_number_of_files_is_refused(config: DataConfig, corpus: Path) -> None:
    with DataLoader(config) as loader:
        next(loader)
        state = through_json(loader)
    write_jsonl(corpus / "part9.jsonl", ["new"])
    with pytest.raises(DataError, match="names 4 files now and named 3"):
        DataLoader(config).load_state_dict(state)


def cut_short(path: Path) -> str:
    os.truncate(path, 1000)
    return r"it had \d+ bytes and has 1000"


def put_in_front(path: Path) -> str:
    path.write_bytes(b'{"text": "one more"}\n' + path.read_bytes())
    return r"it had \d+ bytes and has \d+"


def append(path: Path) -> str:
    with path.open("ab") as file:
        file.write(b'{"text": "one more"}\n')
    return r"it had \d+ bytes and has \d+"


def change_one_byte(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    return "it has the same size, but other contents"


def remove(path: Path) -> str:
    path.unlink()
    path.symlink_to("nowhere")
    return "it can no longer be read"


@pytest.mark.parametrize("change", [cut_short, put_in_front, append, change_one_byte, remove])
def test_a_changed_file_is_refused_in_one_line_that_names_it(
    config: DataConfig, corpus: Path, change: Callable[[Path], str]
) -> None:
    with DataLoader(config) as loader:
        next(loader)
        state = through_json(loader)
    how = change(corpus / "part1.jsonl")
    with pytest.raises(DataError, match=rf"part1.jsonl changed since the run was saved \({how}\); put back") as raised:
        DataLoader(config).load_state_dict(state)
    assert "\n" not in str(raised.value)


def test_files_elsewhere_are_known_too(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    (tmp_path / "data").mkdir()
    for source, write in (
        (SourceConfig("memory://changes/a.txt"), lambda text: memory.pipe("/changes/a.txt", text)),
        (SourceConfig(f"hf:{tmp_path / 'data'}"), (tmp_path / "data" / "train.txt").write_bytes),
    ):
        write(b"one line\n" * 90)
        config = DataConfig((source,), 50, 50)
        with DataLoader(config) as loader:
            next(loader)
            state = through_json(loader)
        with DataLoader(config) as loader:
            loader.load_state_dict(state)
        write(b"one lime\n" * 90)
        with pytest.raises(DataError, match=r"changed since the run was saved \(it has the same size"):
            DataLoader(config).load_state_dict(state)


def test_a_file_that_changed_before_the_first_step_is_refused_too(config: DataConfig, corpus: Path) -> None:
    with DataLoader(config) as loader:
        state = through_json(loader)
    put_in_front(corpus / "part0.jsonl")
    with pytest.raises(DataError, match=r"part0.jsonl changed"):
        DataLoader(config).load_state_dict(state)


def test_the_same_bytes_in_a_new_file_are_the_same_data(config: DataConfig, corpus: Path) -> None:
    """Files that were copied, or put back from an archive, have other times and places on the disk."""
    with DataLoader(config) as loader:
        next(loader)
        state = through_json(loader)
        wanted = next(loader)
    path = corpus / "part1.jsonl"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, (1, 1))
    with DataLoader(config) as loader:
        loader.load_state_dict(state)
        assert is_same(next(loader), wanted)


def test_a_large_file_is_known_by_samples_of_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = 8 << 20
    path.write_bytes(bytes(size))
    known = fingerprint(str(path), 1 << 20)
    for place in (0, size // 2, size - 1):
        with path.open("r+b") as file:
            file.seek(place - place % 4096)
            file.write(b"\1" * 200_000 if place < size - 1 else b"\1" * 4096)
        assert fingerprint(str(path), 1 << 20) != known
        known = fingerprint(str(path), 1 << 20)


def test_data_that_changes_under_a_run_ends_it_in_one_line(config: DataConfig, corpus: Path) -> None:
    """Where samples of a large file do not show the change: the block that is read again is another."""
    plain = DataConfig((SourceConfig(str(corpus / "part0.jsonl")),), 500, 64, shuffle_bytes=0)
    with DataLoader(plain) as loader:
        take(loader, 9)
        state = through_json(loader)
    write_jsonl(corpus / "part0.jsonl", ["short"])
    stream = Stream(plain, 0, 256)
    stream.load_state_dict(state["streams"][0])
    with pytest.raises(DataError, match="its files are no longer what they were"):
        stream.next()


def test_what_can_be_read_only_once_is_no_training_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "-"):
        with pytest.raises(DataError, match=r"(pipe|-): is a pipe, which can be read only once; save its text"):
            next(DataLoader(DataConfig((SourceConfig(path),))))

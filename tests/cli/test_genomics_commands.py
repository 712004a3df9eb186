"""DNA on the command line: regions and records by name, tracks, annotated pictures, codon phase, vectors, the probe."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.evaluation.embeddings import embed
from hnet_lm.genome import reverse_complement

DRAW = random.Random(0)
BASES = bytes(DRAW.choices(b"ACGT", k=400))
START = 59_000_000
GENES = """chr20\t59000010\t59000040\tgene\t0\t+
chr20\t59000050\t59000083\tgene\t0\t-
chr20\t59000020\t59000060\trepeat
chr20\t10\t60\telsewhere
"""


@pytest.fixture
def saved(two_stages: str) -> str:
    return two_stages


@pytest.fixture
def fasta(tmp_path: Path) -> str:
    path = tmp_path / "genome.fa"
    body = BASES.decode()
    path.write_text(f">chr1\nACGTTGCA\n>chr20:{START + 1}-{START + 400} part\n{body[:200]}\n{body[200:].lower()}\n")
    return str(path)


@pytest.fixture
def genes(tmp_path: Path) -> str:
    path = tmp_path / "genes.bed"
    path.write_text(GENES)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_tracks_have_the_positions_of_the_genome(
    saved: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    region = ("chunks", saved, "--file", fasta, "--region", "chr20:59,000,101-59,000,200")
    graph, bed = tmp_path / "p.bedgraph", tmp_path / "chunks.bed"
    assert run(capsys, *region, "--bedgraph", str(graph), "--bed-output", str(bed))[:2] == (0, "")
    facts = json.loads(run(capsys, *region, "--json")[1])
    assert (facts["sequence"], facts["origin"], facts["num_bytes"]) == ("chr20", START + 100, 100)
    found = hnet_lm.chunks(hnet_lm.load(saved), BASES[100:200])
    rows = [line.split("\t") for line in graph.read_text().splitlines()]
    assert [row[:3] for row in rows] == [["chr20", str(START + i), str(START + i + 1)] for i in range(100, 200)]
    assert [float(row[3]) for row in rows] == pytest.approx(found.stages[0].boundary_prob.tolist(), abs=1e-5)
    rows = [line.split("\t") for line in bed.read_text().splitlines()]
    for number, stage in enumerate(found.stages):
        of_stage = [row for row in rows if row[3] == f"stage{number}"]
        assert [int(row[1]) - START - 100 for row in of_stage] == stage.starts.tolist()
        assert [int(row[2]) - int(row[1]) for row in of_stage] == stage.lengths.tolist()
        assert all(0 <= int(row[4]) <= 1000 for row in of_stage)
    assert [int(row[1]) for row in rows] == sorted(int(row[1]) for row in rows)
    assert run(capsys, *region, "--bedgraph", str(graph), "--stage", "1", "--track-lines")[0] == 0
    first, *rest = graph.read_text().splitlines()
    assert first.startswith('track type=bedGraph name="p of a boundary, stage 1"')
    assert [int(line.split("\t")[1]) - START - 100 for line in rest] == found.stages[1].offsets.tolist()


def test_bed_fits_a_record_by_its_name(saved: str, fasta: str, genes: str, capsys: pytest.CaptureFixture[str]):
    arguments = ("chunks", saved, "--file", fasta, "--document", "1", "--bed", genes, "--json")
    found = json.loads(run(capsys, *arguments, "--tolerance", "3", "--codon-phase")[1])
    agreements = {item["reference"]: item for item in found["stages"][0]["agreement"]}
    counts = {name: item["num_reference"] for name, item in agreements.items()}
    assert counts == {"intervals of genes.bed": 6, "gene of genes.bed": 4, "repeat of genes.bed": 2}
    starts = np.array(found["stages"][0]["starts"][1:])
    near = sum((abs(starts - edge) <= 3).any() for edge in (20, 60))
    assert agreements["repeat of genes.bed"]["recall"] == near / 2
    assert agreements["repeat of genes.bed"]["chance_precision"] == 14 / 399
    both, plus, minus = found["stages"][0]["codon_phases"]
    inside = [(x - 10) % 3 for x in starts if 10 < x < 40]
    assert plus["num_cuts"] == [inside.count(phase) for phase in range(3)]
    inside = [(83 - x) % 3 for x in starts if 50 < x < 83]
    assert minus["num_cuts"] == [inside.count(phase) for phase in range(3)]
    assert both["num_genes"] == 2
    code, out, _ = run(capsys, *arguments[:-1], "--codon-phase")
    assert code == 0
    assert "between codons, % (chance)" in out
    assert "gene of genes.bed" in out


def test_pictures_have_positions_and_intervals(
    saved: str, fasta: str, genes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    region = ("chunks", saved, "--file", fasta, "--region", "chr20:59,000,001-59,000,150", "--bed", genes)
    page, picture = tmp_path / "a.html", tmp_path / "a.svg"
    assert run(capsys, *region, "--html", str(page), "--png", str(picture))[0] == 0
    text = page.read_text()
    assert "<title>chr20:59,000,001-59,000,150</title>" in text
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    gene, other, repeat = [10, 40, "gene", "+"], [50, 83, "gene", "-"], [20, 60, "repeat", "."]
    assert data["place"] == {"sequence": "chr20", "origin": START, "rowBases": 100, "lanes": [[gene, other], [repeat]]}
    assert picture.read_bytes().startswith(b"<?xml")
    out = run(capsys, "chunks", saved, "--file", fasta, "--region", "chr20:59,000,001-59,000,060")[1]
    assert out.splitlines()[0] == f"59000001 {BASES[:60].decode()}"


def test_only_a_stretch_is_said_with_its_place(saved: str, fasta: str, capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, "chunks", saved, "--file", fasta, "--region", "chr20", "--max-bytes", "50", "--json")
    assert code == 0
    assert err == (
        "hnet-lm: chr20: only a stretch of 50 bases (chr20:59,000,001-59,000,050) is read; --max-bytes reads more\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ACGT", "--bedgraph", "x.bedgraph"], "need the name of the sequence: give FASTA, or --bed-sequence"),
        (["ACGT", "--region", "chr1:1-2"], "--region goes with --file FASTA"),
        (["--file", "FASTA", "--region", "20:1-2"], "it has 'chr20', so rename one of them"),
        (["--file", "FASTA", "--region", "chr20:9-2"], "chr20:9-2: no region; write NAME:START-END"),
        (["--file", "sample:code", "--region", "chr20"], "--region: sample:code is not FASTA"),
        (["--file", "FASTA", "--bedgraph", "x.bedgraph", "--stage", "2"], "--stage 2: the model has 2 stages"),
        (["ACGT", "--codon-phase"], "--codon-phase needs --bed"),
        (["ACGT", "--tolerance", "-1"], "--tolerance: must be a whole number, 0 or more, got -1"),
    ],
)
def test_mistakes(saved: str, fasta: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "chunks", saved, *[fasta if a == "FASTA" else a for a in arguments])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_vectors_of_intervals(saved: str, fasta: str, genes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "v.npz"
    arguments = ("embed", saved, fasta, "--bed", genes, "-o", str(out))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "genes.bed, line 4: chr20:11-60 is not in the FASTA, which has chr1:1-8, chr20:59000001-59000400" in err
    assert not out.exists()
    code, _, err = run(capsys, *arguments, "--on-error", "skip", "--flank", "20")
    assert code == 0
    assert "intervals left out: 1" in err
    found = np.load(out)
    assert found["name"].tolist() == ["gene", "gene", "repeat"]
    assert found["start"].tolist() == [START + 10, START + 50, START + 20]
    assert found["strand"].tolist() == ["+", "-", "."]
    model = hnet_lm.load(saved)
    forward, backward = embed(model, BASES[:40]), embed(model, reverse_complement(BASES[50:103]))
    np.testing.assert_allclose(found["bytes"][0], forward.bytes[10:].mean(0), atol=1e-5)
    np.testing.assert_allclose(found["bytes"][1], backward.bytes[20:].mean(0), atol=1e-5)
    of_chunks = forward.chunks[forward.chunk_starts >= 10]
    np.testing.assert_allclose(found["chunks"][0], of_chunks.mean(0), atol=1e-5)


def test_vectors_of_documents(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts, out = tmp_path / "t.jsonl", tmp_path / "v.npz"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one text", "", "another")))
    arguments = ("embed", saved, str(texts), "-o", str(out))
    assert run(capsys, *arguments, "--pool", "last")[0] == 0
    last = np.load(out)
    assert run(capsys, *arguments, "--pool", "none")[0] == 0
    every = np.load(out)
    assert last["document"].tolist() == every["document"].tolist() == [0, 1]
    assert every["byte_offsets"].tolist() == [0, 8, 15]
    np.testing.assert_array_equal(last["bytes"], every["bytes"][[7, 14]])
    np.testing.assert_array_equal(last["chunks"], every["chunks"][every["chunk_offsets"][1:] - 1])
    assert every["chunk_starts"][every["chunk_offsets"][:-1]].tolist() == [0, 0]
    code, _, err = run(capsys, "embed", saved, str(texts), "-o", str(tmp_path / "v.txt"))
    assert (code, "the endings are .npz" in err) == (2, True)


def test_the_probe_of_the_documentation(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Names that the bases tell, and names that they do not tell."""
    page = (Path(__file__).parents[2] / "docs" / "genomics.md").read_text()
    (recipe,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    stretches = [["".join(draw.choices(("CG", "AT")[i % 2], k=40)) for i in range(8)] for _ in range(4)]
    records = {f"chr{number}": "".join(of_record) for number, of_record in enumerate(stretches)}
    Path("genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in records.items()))
    lines = [(name, 40 * i, 40 * i + 40, ("gc", "at")[i % 2]) for name in records for i in range(8)]
    Path("regions.bed").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    assert run(capsys, "embed", saved, "genome.fa", "--bed", "regions.bed", "--output", "regions.npz")[0] == 0
    exec(compile(recipe, "docs/genomics.md", "exec"), {})
    chance, probe = (float(line.split()[3]) for line in capsys.readouterr().out.splitlines())
    assert chance == 0.5
    assert probe > 0.95

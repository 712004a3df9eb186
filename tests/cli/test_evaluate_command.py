"""`hnet-lm evaluate` with a saved model: it prints what the library finds."""

import json
from pathlib import Path

import pytest

import hnet_lm
from hnet_lm.cli.evaluate.reading import documents
from hnet_lm.cli.main import main
from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.data import documents as read_documents
from hnet_lm.evaluation import ByteScorer, Passage, SlidingWindow, bits_per_byte, compressor_bits_per_byte
from hnet_lm.evaluation.dna import kmer_baselines
from hnet_lm.evaluation.enrichment import EnrichmentCollector
from hnet_lm.generation.rounded_weights import Weights, with_weights

TEXTS = ["A first document.", "And, 天地, a second one: longer."]
QUESTIONS = [{"prompt": "The sky is", "choices": [" blue.", " a fish."], "answer": n % 2} for n in range(2)]


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(["evaluate", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_bits_per_byte(saved: str, texts: str, capsys: pytest.CaptureFixture[str]):
    arguments = ("bpb", saved, f"one={texts}", f"two={texts}", f"two={texts}", "--compressors", "xz", "gzip")
    found = json.loads(shown(capsys, *arguments, "--json"))
    data = [text.encode() for text in TEXTS]
    expected = bits_per_byte(ByteScorer(hnet_lm.load(saved)), {"": data}).value
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert found["domains"]["two"]["num_documents"] == 4
    assert found["compressors"]["two"]["xz"] == compressor_bits_per_byte(b"".join(data * 2), "xz")
    assert len(found["chunks"]["one"]) == 1
    table = shown(capsys, *arguments)
    assert f"{expected:.4f}" in table
    assert "bytes/chunk" in table


def test_results_are_whole_off_a_terminal(
    saved: str, texts: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    compressors = ("gzip", "xz", "zstd")
    arguments = ("bpb", saved, f"english={texts}", f"code={texts}", "--compressors", *compressors)
    facts = json.loads(shown(capsys, *arguments, "--json"))
    table = shown(capsys, *arguments)
    assert "…" not in table
    for domain in ("english", "code"):
        (line,) = [line for line in table.splitlines() if line.split()[:2] == [domain, "2"]]
        low, high = facts["domains"][domain]["interval_95"]
        figures = [f"{facts['compressors'][domain][name]:.4f}" for name in compressors]
        assert line.split()[4:] == [
            f"{low:.4f}-{high:.4f}",
            f"{facts['domains'][domain]['bits_per_byte_with_eos']:.4f}",
            *figures,
        ]


def test_every_file_is_tried_before_any_is_measured(
    saved: str, texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ByteScorer, "score", lambda *_: pytest.fail("measured"))
    assert "nowhere.txt" in complaint(capsys, "bpb", saved, texts, "nowhere.txt")
    assert "hf:" in complaint(capsys, "bpb", saved, texts, "hf:")
    assert "--max-bytes: must be a whole number, 1" in complaint(capsys, "bpb", saved, texts, "--max-bytes", "0")
    assert "cannot be read" in complaint(capsys, "robustness", saved, "--questions", str(tmp_path / "no.jsonl"))
    assert "--seed: must be a whole" in complaint(capsys, "robustness", saved, "--text", texts, "--seed", "-1")


def test_a_file_that_the_model_cannot_read_is_named(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"caf\xe9 \xfe\n")
    assert f"{path}: record 1 holds the byte 254 at 5" in complaint(capsys, "bpb", saved, f"name={path}")


def test_harness_mistakes_are_one_line_each(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = ("--task-directory", str(tmp_path))
    assert "name at least one task" in complaint(capsys, "harness", saved, *folder)
    assert "--limit: must be a whole number, 1" in complaint(capsys, "harness", saved, "x", "--limit", "0")
    assert "no task 'x'" in complaint(capsys, "harness", saved, "x", *folder)
    assert "no such folder" in complaint(capsys, "harness", saved, "x", "--task-directory", str(tmp_path / "no"))


def test_windows_and_limits(saved: str, texts: str, capsys: pytest.CaptureFixture[str]):
    found = json.loads(shown(capsys, "bpb", saved, texts, "--json", "--window", "6", "--max-bytes", "5"))
    scorer = ByteScorer(hnet_lm.load(saved), SlidingWindow(6, 3))
    assert found["bits_per_byte"] == pytest.approx(bits_per_byte(scorer, {"": [TEXTS[0].encode()]}).value, rel=1e-5)
    assert "--stride goes with --window" in complaint(capsys, "bpb", saved, texts, "--stride", "3")
    assert "needs a file" in complaint(capsys, "bpb", saved)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_smaller_weights(saved: str, texts: str, weights: Weights, capsys: pytest.CaptureFixture[str]):
    found = json.loads(shown(capsys, "bpb", saved, texts, "--json", "--precision", weights))["bits_per_byte"]
    smaller, data = with_weights(hnet_lm.load(saved), weights), [text.encode() for text in TEXTS]
    assert found == pytest.approx(bits_per_byte(ByteScorer(smaller), {"": data}).value, rel=1e-5)
    exact = bits_per_byte(ByteScorer(hnet_lm.load(saved)), {"": data}).value
    assert 0 < abs(found - exact) < 0.01 * exact
    message = complaint(capsys, "bpb", saved, texts, "--precision", "int9")
    assert "int9" in message
    assert message.count("\n") == 1


def test_a_sample_is_read_in_its_held_out_part():
    source = SourceConfig("sample:code", split="validation")
    held_out = [document.data for document in read_documents(DataConfig((source,)))]
    assert list(documents("sample:code", None)) == held_out
    assert list(documents("sample:code", len(held_out[0]) + 1)) == held_out[:2]


def test_boundaries(saved: str, texts: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    prose, genes = tmp_path / "prose.txt", tmp_path / "genes.bed"
    prose.write_text(" ".join(["Some years ago, never mind how long."] * 9))
    genes.write_text("chr1\t12\t27\tg\t0\t+\n")
    arguments = ("boundaries", saved, f"two={texts}", f"two={prose}", f"dna={fasta}")
    options = ("--bed", str(genes), "--codon-phase", "--tolerance", "2")
    found = json.loads(shown(capsys, *arguments, *options, "--json"))
    data = [*(text.encode() for text in TEXTS), prose.read_bytes()]
    collector = EnrichmentCollector()
    for score in ByteScorer(hnet_lm.load(saved), unit_starts=True, byte_logprobs=True).score(map(Passage, data)):
        collector.add(score)
    (stage,) = found["domains"]["two"]
    assert stage["enrichment"]["value"] == pytest.approx(collector.enrichments()[0].value, rel=1e-4)
    assert [item["reference"] for item in stage["agreement"]] == [
        "spaces",
        "after spaces",
        "characters",
    ]
    assert stage["stability"]["shift_f1"] is not None
    (dna,) = found["domains"]["dna"]
    assert [item["reference"] for item in dna["agreement"]] == ["intervals of genes.bed"]
    assert dna["agreement"][0]["num_reference"] == 2
    assert dna["codon_phases"][0]["num_places"] == [4, 5, 5]
    assert dna["stability"]["shift_f1"] is None
    table = shown(capsys, *arguments, *options)
    for text in ("B by chance (95 %)", "between codons", "two, stage 0, most often: ", "F1 of cuts after a shift"):
        assert text in table
    assert "--bed-sequence and --bed-origin go with one text" in complaint(capsys, *arguments, "--bed-origin", "5")


def test_robustness(saved: str, texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, QUESTIONS)))
    arguments = ("robustness", saved, "--questions", str(questions), "--text", texts, "--targets", "prompt", "both")
    found = json.loads(shown(capsys, *arguments, "--json"))
    assert found["accuracy"]["clean"] == 0.5
    assert found["accuracy"]["score"] is None
    assert set(found["accuracy"]["perturbations"]["Drop"]) == {"average", "score", "prompt", "both"}
    assert found["bits_per_byte"]["clean"]["bits_per_byte"] > 5
    table = shown(capsys, *arguments)
    assert "AntSpeak" in table
    assert "bits/clean byte" in table
    assert "--questions FILE, --text FILE" in complaint(capsys, "robustness", saved)


@pytest.fixture
def fasta(tmp_path: Path) -> str:
    path = tmp_path / "reference.fa"
    path.write_text(">chr1:11-30\nACGGATTACAGGCTTAAGCC\n")
    return str(path)


def test_dna(saved: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scorer = ByteScorer(hnet_lm.load(saved))

    def logprob(bases: bytes) -> float:
        return next(scorer.score([Passage(bases)])).logprob

    found = bits_per_byte(scorer, {"": [b"ACGGATTACAGGCTTAAGCC"]})
    assert f"perplexity {2**found.value:.2f}" in shown(capsys, "dna", saved, fasta, "--one-strand")
    variants = tmp_path / "variants.vcf"
    variants.write_text("#CHROM\tPOS\tID\tREF\tALT\nchr1\t15\t.\tA\tC,<DEL>\n")
    _, row = shown(
        capsys, "dna", saved, fasta, "--variants", str(variants), "--one-strand", "--flank", "2"
    ).splitlines()
    assert row.split("\t")[:5] == ["chr1", "15", ".", "A", "C"]
    assert float(row.split("\t")[-1]) == pytest.approx(logprob(b"GGCTT") - logprob(b"GGATT"), abs=1e-4)
    _, *windows = shown(capsys, "dna", saved, fasta, "--score-windows", "8", "--score-stride", "6").splitlines()
    assert [row.split("\t")[1:3] for row in windows] == [["10", "18"], ["16", "24"], ["22", "30"]]
    both = ("--score-windows", "8", "--variants", str(variants))
    assert "exclude each other" in complaint(capsys, "dna", saved, fasta, *both)
    variants.write_text("#CHROM\tPOS\tID\tREF\tALT\nchr1\t15\t.\tG\tC\n")
    assert "line 2, chr1:15: the reference has A" in complaint(capsys, "dna", saved, fasta, "--variants", str(variants))


def test_variants_into_a_vcf(saved: str, fasta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    variants, output = tmp_path / "variants.vcf", tmp_path / "scored.vcf"
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    variants.write_text(f"{header}chr1\t15\trs7\tA\tC\t.\tPASS\tDB\n")
    arguments = ("dna", saved, fasta, "--variants", str(variants), "--one-strand")
    (row,) = shown(capsys, *arguments).splitlines()[1:]
    facts = json.loads(shown(capsys, *arguments, "--json"))
    assert (facts["id"], f"{facts['log_ratio']:.6f}") == ("rs7", row.split("\t")[-1])
    assert shown(capsys, *arguments, "-o", str(output)) == ""
    record = output.read_text().splitlines()[-1].split("\t")
    reference, alternative, ratio = row.split("\t")[-3:]
    assert record[:7] == ["chr1", "15", "rs7", "A", "C", ".", "PASS"]
    assert record[7] == f"DB;HNET_LLR={ratio};HNET_LOGPROB={reference},{alternative}"
    assert shown(capsys, *arguments, "--output", str(tmp_path / "table.tsv")) == ""
    assert (tmp_path / "table.tsv").read_text().splitlines()[1] == row
    variants.write_text(f"{header}chr7\t15\trs7\tA\tC\t.\tPASS\tDB\n")
    before = output.read_text()
    assert "no variant that could be scored" in complaint(capsys, *arguments, "--output", str(output))
    assert output.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "reference.fa",
        "scored.vcf",
        "table.tsv",
        "variants.vcf",
    ]


def test_kmers_and_regions_beside_perplexity(saved: str, fasta: str, capsys: pytest.CaptureFixture[str]):
    arguments = ("dna", saved, fasta, "--kmers", "1", "12")
    found = json.loads(shown(capsys, *arguments, "--json"))
    expected = list(kmer_baselines([b"ACGGATTACAGGCTTAAGCC"], [1, 12]))
    assert [row["bits_per_base"] for row in found["kmers"]] == [row.bits_per_base for row in expected]
    table = shown(capsys, *arguments)
    assert f"{expected[0].perplexity:.5f}" in table
    assert f"{found['perplexity']:.5f}" in table
    part = json.loads(shown(capsys, "dna", saved, fasta, "--region", "chr1:13-20", "--json", "--kmers", "0"))
    assert part["num_bytes"] == part["kmers"][0]["num_bases"] == 8
    primed = json.loads(shown(capsys, *arguments, "--kmer-train", fasta, "--json"))
    assert primed["kmers"][1]["bits_per_base"] < 1.5 < found["kmers"][1]["bits_per_base"]
    windows = shown(capsys, "dna", saved, fasta, "--score-windows", "4", "--region", "chr1:13-20").splitlines()[1:]
    assert [row.split("\t")[:3] for row in windows] == [["chr1", "12", "16"], ["chr1", "16", "20"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kmers", "13"], "--kmers takes orders from 0 to 12, got 13"),
        (["--kmer-train", "x.fa"], "--kmer-train goes with --kmers"),
        (["--output", "x.tsv"], "--output goes with --variants or --score-windows"),
        (["--score-windows", "5", "--kmers", "1"], "--kmers and --max-bytes go with perplexity"),
        (["--variants", "v.vcf", "--region", "chr1"], "--region goes with perplexity and --score-windows"),
        (["--region", "chr1:5-9"], "chr1:5-9: is not in"),
    ],
)
def test_mistakes_about_dna(
    saved: str, fasta: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert message in complaint(capsys, "dna", saved, fasta, *arguments)


def test_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = []
    for name, speed in [("slow", 1), ("fast", 2)]:
        runs.append(str(tmp_path / name))
        (tmp_path / name).mkdir()
        records = [
            {"step": n, "bytes_seen": n * 100, "lr": 1.0, "validation/bits_per_byte": 4 - 0.1 * n * speed}
            for n in range(1, 11)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = json.loads(shown(capsys, "curves", *runs, "--json", "--png", str(tmp_path / "curves.png")))
    assert found["baseline"] == "slow"
    assert found["runs"]["fast"]["before_decay"]["factor"] == pytest.approx(2)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "2.00" in shown(capsys, "curves", *runs)
    assert "two runs or more" in complaint(capsys, "curves", runs[0])


def test_harness(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    (tmp_path / "task.yaml").write_text(
        f"""
task: local_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "questions.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
    )
    arguments = ("harness", saved, "local_questions", "--task-directory", str(tmp_path))
    words = shown(capsys, *arguments).split()
    assert words[words.index("acc_bytes") + 1] == "0.5000"

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from hnet_lm.errors import DataError
from hnet_lm.inspect import references
from hnet_lm.inspect.bpe import bpe_offsets


def test_spaces_and_words_after_them():
    data = b"The  cat\nsat"
    assert references.space_offsets(data).tolist() == [3, 8]
    assert references.after_space_offsets(data).tolist() == [5, 9]
    assert references.space_offsets(b"").tolist() == []


def test_words_in_order_with_gaps():
    text = "我爱北京,我爱猫".encode()
    assert references.word_offsets(text, ["我", "爱", "北京", "我", "爱猫"]).tolist() == [0, 3, 6, 13, 16]
    with pytest.raises(DataError, match="word 2, '我', does not occur in the text after byte 3"):
        references.word_offsets("我爱".encode(), ["我", "我"])


def test_codons():
    assert references.codon_offsets(10, frame=1).tolist() == [1, 4, 7]
    with pytest.raises(DataError, match="frame must be 0, 1 or 2, got 3"):
        references.codon_offsets(10, frame=3)


def test_bed(tmp_path: Path):
    path = tmp_path / "genes.bed"
    path.write_text("#comment\ntrack name=x\nchr1\t105\t110\tgene\nchr2\t100\t101\nchr1 112 130\n\n")
    assert references.bed_offsets(path, "chr1", 20, origin=100).tolist() == [5, 10, 12]
    assert references.bed_offsets(path, None, 20, origin=100).tolist() == [0, 1, 5, 10, 12]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("chr1\tx\t5\n", "line 1: not BED"),
        ("chr1\t1\n", "line 1: not BED"),
        ("\n\nchr1\t-1\t5\n", "line 3: not BED"),
        ("chr2\t1\t5\n", "no interval of 'chr1' begins or ends in positions 0 to 20"),
        ("chr1\t50\t60\n", "check the sequence name and the origin"),
    ],
)
def test_wrong_bed_files_name_the_line(tmp_path: Path, content: str, message: str):
    path = tmp_path / "genes.bed"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        references.bed_offsets(path, "chr1", 20)
    assert str(path) in str(caught.value)


def test_a_missing_bed_file(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        references.bed_offsets(tmp_path / "none.bed", None, 5)


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)  # pyright: ignore  its types are not known
    tokenizer.train_from_iterator(["the cat sat on the mat the cat"] * 10, trainer)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_bpe_offsets_are_in_bytes(tokenizer_path: Path):
    assert bpe_offsets(b"the cat sat", tokenizer_path).tolist() == [0, 3, 7]
    # the tokens of a character that has none of its own all count as its first byte
    assert bpe_offsets("é the 中 cat".encode(), tokenizer_path).tolist() == [0, 2, 6, 7, 10]


def test_bpe_mistakes(tokenizer_path: Path, tmp_path: Path):
    with pytest.raises(DataError, match="byte 1 of the text is not"):
        bpe_offsets(b"a\xff", tokenizer_path)
    with pytest.raises(DataError, match="no such file"):
        bpe_offsets(b"a", tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(DataError, match=r"broken.json: not a tokenizer.json"):
        bpe_offsets(b"a", broken)

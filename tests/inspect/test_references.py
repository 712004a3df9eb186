from pathlib import Path

import pytest

from hnet_lm.errors import DataError
from hnet_lm.genome import BedInterval
from hnet_lm.inspect import references
from hnet_lm.inspect.chinese import chinese_word_offsets
from hnet_lm.inspect.place import edges, lanes, read_annotations
from hnet_lm.inspect.python_tokens import is_python, python_offsets
from hnet_lm.inspect.scripts import is_chinese


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
    found = read_annotations(path, "chr1", 20, origin=100)
    assert [(a.start, a.end, a.name) for a in found] == [(5, 10, "gene"), (12, 30, "")]
    assert edges(found, 20).tolist() == [5, 10, 12]
    assert edges(read_annotations(path, None, 20, origin=100), 20).tolist() == [0, 1, 5, 10, 12]
    (covering,) = read_annotations(path, "chr1", 5, origin=120)
    assert (covering.start, covering.end) == (-8, 10)
    assert edges([covering], 5).tolist() == []


def test_intervals_in_rows_do_not_lie_over_each_other():
    a, b, c, d = (BedInterval("chr1", *place) for place in ((0, 10), (5, 8), (8, 9), (10, 12)))
    assert lanes([d, c, b, a]) == [[a, d], [b, c]]
    assert lanes([]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("chr1\tx\t5\n", "line 1: not BED"),
        ("chr1\t1\n", "line 1: not BED"),
        ("\n\nchr1\t-1\t5\n", "line 3: not BED"),
        ("chr2\t1\t5\n", "no interval of 'chr1' overlaps positions 0 to 20"),
        ("1\t5\t6\n", "it has '1', so rename one of them"),
        ("chr1\t50\t60\n", "check the sequence name and the origin"),
    ],
)
def test_wrong_bed_files_name_the_line(tmp_path: Path, content: str, message: str):
    path = tmp_path / "genes.bed"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_annotations(path, "chr1", 20)
    assert str(path) in str(caught.value)


def test_a_missing_bed_file(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        read_annotations(tmp_path / "none.bed", None, 5)


def test_characters_also_of_bytes_that_are_no_text():
    data = "a中é".encode() + b"\xff\xe4b"
    assert references.character_offsets(data).tolist() == [0, 1, 4, 6, 7, 8]
    assert references.character_offsets(b"").tolist() == []


def test_chinese_words():
    text = "我来到北京清华大学,\n研究生命"
    words = ["我", "来到", "北京", "清华大学", ",", "研究", "生命"]
    assert chinese_word_offsets(text.encode()).tolist() == references.word_offsets(text.encode(), words).tolist()
    assert chinese_word_offsets(b"\xff\xfe").tolist() != []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("道可道,非常道", True),
        ("GPU 上的训练", True),
        ("東京に行きます", False),
        ("the 道 of it", False),
        ("", False),
        ("123", False),
    ],
)
def test_which_text_is_chinese(text: str, expected: bool):
    assert is_chinese(text.encode()) is expected


SOURCE = "# né\r\nx = 'ü' + f(1)\nif x:\n\treturn\n"


def test_tokens_of_python_in_bytes():
    data = SOURCE.encode()
    starts = python_offsets(data).tolist()
    pieces = [data[a:b].strip() for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    expected = ["# né", "x", "=", "'ü'", "+", "f", "(", "1", ")", "if", "x", ":", "return"]
    assert [piece.decode() for piece in pieces] == expected


def test_unfinished_python():
    data = b'def f():\n    return 1\n\ntext = """not en'
    assert is_python(data, is_whole=False)
    assert not is_python(data)
    assert python_offsets(data, is_whole=False).tolist()[:4] == [0, 4, 5, 6]
    with pytest.raises(DataError, match=r"cannot be tokenized as Python: line \d+: "):
        python_offsets(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os\nprint(os)\n", True),
        ("x = 1\n", False),
        ("yes\n\nno\n", False),
        ("Call me Ishmael.\nSome years ago", False),
        ("a = '\\d'\nb = 2", True),
        ("x" + "\0" + "= 1\ny = 2", False),
        ("(" * 5000 + "\n" + ")" * 5000, False),
    ],
)
def test_which_text_is_python(text: str, expected: bool, recwarn: pytest.WarningsRecorder):
    assert is_python(text.encode()) is expected
    assert not recwarn.list

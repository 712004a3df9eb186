import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.image import imread

from hnet_lm.inspect import Chunks
from hnet_lm.inspect.png import save_png


@pytest.mark.parametrize("which", ["sample", "no stages", "empty", "long"])
def test_pictures_of_any_text(sample: Chunks, make_chunks: Callable[..., Chunks], tmp_path: Path, which: str):
    found = {
        "sample": sample,
        "no stages": make_chunks(b"plain $x$ text"),
        "empty": make_chunks(b"", []),
        "long": make_chunks(b"abc def\n" * 2000, list(range(0, 16000, 4)), [0, 8, 800]),
    }[which]
    path = tmp_path / "chunks.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_png(found, path, "a $title", columns=40, max_rows=5)
    picture = imread(path)
    assert picture.shape[0] > 50
    assert picture.shape[1] > 500
    assert picture[..., :3].std() > 0.02


def test_chunks_have_their_colours(make_chunks: Callable[..., Chunks], tmp_path: Path):
    path = tmp_path / "chunks.png"
    save_png(make_chunks(b" " * 40, [0, 20], [0]), path, "", columns=40)
    colours = {tuple(round(c * 255) for c in pixel) for pixel in imread(path)[::2, ::7, :3].reshape(-1, 3).tolist()}
    assert {(0xBF, 0xD7, 0xFF), (0xFF, 0xE2, 0xB8), (0x10, 0xB9, 0x81)} <= colours

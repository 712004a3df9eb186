"""A curve in a terminal: values over time, drawn with the dots of Braille characters, or with `*`."""

from collections.abc import Sequence

import numpy as np

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a character, by row and column


def draw_curve(
    x: Sequence[float], y: Sequence[float], width: int, height: int, *, encoding: str = "utf-8", digits: int = 3
) -> list[str]:
    """`height` lines of `width` cells, with the y scale on the left; each column of dots is a mean.

    x must increase. Values that are not finite are left out; if none remain, there is one line that says so.
    """
    has_dots = encoding.lower().replace("-", "").startswith("utf")
    rows, columns = (4, 2) if has_dots else (1, 1)
    points = np.array([x, y], dtype=np.float64)
    points = points[:, np.isfinite(points).all(0)]
    if not points.shape[1]:
        return ["no values yet"]
    low, high = float(points[1].min()), float(points[1].max())
    labels = [f"{high:.{digits}f}", f"{low:.{digits}f}"]
    gutter = max(map(len, labels)) + 1
    num_columns, num_rows = columns * max(1, width - gutter), rows * height
    lit = np.zeros((num_rows, num_columns), dtype=bool)
    place = _scaled(points[0], num_columns)
    for column in np.unique(place):
        mean = points[1][place == column].mean()
        lit[num_rows - 1 - int(_scaled(np.array([low, mean, high]), num_rows)[1]), column] = True
    lines = []
    for row in range(height):
        label = labels[0] if row == 0 else labels[1] if row == height - 1 else ""
        cells = lit[rows * row : rows * (row + 1)].reshape(rows, -1, columns)
        drawn = (_cell(cells[:, i]) if has_dots else " *"[int(cells[0, i, 0])] for i in range(cells.shape[1]))
        lines.append(f"{label.rjust(gutter - 1)} {''.join(drawn)}".rstrip())
    return lines


def _scaled(values: np.ndarray, num: int) -> np.ndarray:
    """Whole numbers from 0 to num - 1."""
    low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return np.minimum((share * num).astype(np.int64), num - 1)


def _cell(dots: np.ndarray) -> str:
    bits = sum(_DOTS[row][column] for row, column in zip(*np.nonzero(dots), strict=True))
    return chr(_BRAILLE + bits) if bits else " "

"""Whether a text is Chinese, by its characters alone."""

import numpy as np

_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))
_KANA = ((0x3040, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0))
_HANGUL = ((0x1100, 0x1200), (0xAC00, 0xD7B0))
MIN_SHARE = 0.5


def is_chinese(data: bytes) -> bool:
    """Whether at least half of the letters are Chinese characters, and almost none are Japanese or Korean."""
    codes = np.frombuffer(data.decode("utf-8", "ignore").encode("utf-32-le"), dtype=np.uint32)
    distinct, counts = np.unique(codes, return_counts=True)
    is_letter = np.array([chr(code).isalpha() for code in distinct.tolist()], dtype=bool)
    num_letters, num_han = int(counts[is_letter].sum()), _count(distinct, counts, _HAN)
    num_others = _count(distinct, counts, _KANA) + _count(distinct, counts, _HANGUL)
    return num_han > 0 and num_han >= MIN_SHARE * num_letters and num_others < 0.05 * num_han


def _count(distinct: np.ndarray, counts: np.ndarray, ranges: tuple[tuple[int, int], ...]) -> int:
    return int(sum(counts[(distinct >= first) & (distinct < end)].sum() for first, end in ranges))

"""Inputs for parsers that nobody wrote on purpose: any bytes, and valid files with a few of their bytes changed."""

from hypothesis import strategies as st


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, or `valid` with up to four stretches cut out, put in or written over, and perhaps its end cut off."""
    edit = st.tuples(st.integers(0, len(valid)), st.integers(0, 12), st.binary(max_size=12))
    edits = st.lists(edit, max_size=4)
    return st.binary(max_size=400) | st.builds(_apply, st.just(valid), edits, st.integers(0, len(valid)) | st.none())


def _apply(valid: bytes, edits: list[tuple[int, int, bytes]], end: int | None) -> bytes:
    data = valid
    for place, removed, added in edits:
        data = data[:place] + added + data[place + removed :]
    return data[:end]

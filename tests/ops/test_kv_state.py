"""What an attention layer remembers: everything it may still see, nothing else; also after select, join and clone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hnet_lm.ops.attention import KVState, PagedKVState, attention
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_cases import contents

HEADS, WIDTH = 2, 3
WINDOWS = (-1, 0, 1, 5, 100)

over_windows = pytest.mark.parametrize("window", WINDOWS)


def new(num_sequences: int) -> KVState:
    return KVState.new(num_sequences, HEADS, WIDTH, torch.float32, torch.device("cpu"))


class Histories:
    """Keys of sequences that grow, written to a state and kept whole beside it."""

    def __init__(self, num_sequences: int, window: int):
        self.window = window
        self.state = new(num_sequences)
        self.keys = [torch.zeros(0, HEADS, WIDTH) for _ in range(num_sequences)]

    def write(self, lengths: list[int], slots: list[int] | None = None) -> None:
        k = torch.randn(sum(lengths), HEADS, WIDTH)
        seqs = Sequences.from_lengths(lengths, None if slots is None else torch.tensor(slots))
        self.state = self.state.write(k, -k, self.window, seqs)
        for i, part in enumerate(k.split(lengths)):
            slot = i if slots is None else slots[i]
            self.keys[slot] = torch.cat([self.keys[slot], part])

    def visible(self) -> Tensor:
        kept = [keys if self.window < 0 else keys[max(0, len(keys) - self.window - 1) :] for keys in self.keys]
        return torch.cat([torch.zeros(0, HEADS, WIDTH), *kept])

    def check(self) -> None:
        held = contents(self.state, self.window)
        assert held["num_seen"].tolist() == [len(keys) for keys in self.keys]
        assert held["keys"].equal(self.visible())
        assert held["values"].equal(-self.visible())


@over_windows
@given(pieces=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=8))
def test_holds_what_is_visible(window: int, pieces: list[list[int]]) -> None:
    histories = Histories(3, window)
    for lengths in pieces:
        histories.write(lengths)
        histories.check()


@over_windows
def test_spans_longer_than_the_window_and_slots_in_any_order(window: int) -> None:
    histories = Histories(4, window)
    histories.write([130, 0, 3], slots=[2, 1, 0])
    histories.write([1, 70], slots=[3, 0])
    histories.write([64, 1], slots=[0, 2])
    histories.check()


@over_windows
def test_grows_no_further_than_the_window(window: int) -> None:
    histories = Histories(2, window)
    for _ in range(40):
        histories.write([7, 1])
    longest = 40 * 7
    most = longest + longest // 2 + 64 if window < 0 else window + 1
    assert min(longest, most) <= histories.state.num_entries <= most


@over_windows
def test_select_clone_and_join_of_different_capacity(window: int) -> None:
    short, long = Histories(2, window), Histories(3, window)
    short.write([2, 4])
    long.write([90, 0, 130])
    joined = Histories(0, window)
    joined.state, joined.keys = KVState.join([short.state, long.state]), short.keys + long.keys
    joined.check()
    joined.write([1, 0, 3, 9, 2])
    joined.check()

    copied = Histories(0, window)
    copied.state, copied.keys = joined.state.select([3, 1, 3]), [joined.keys[i] for i in (3, 1, 3)]
    copied.check()
    copied.write([1, 50, 0])
    copied.check()
    joined.check()

    clone = joined.state.clone()
    joined.write([1, 1, 1, 1, 1])
    assert clone.num_seen.tolist() == [len(keys) - 1 for keys in joined.keys]


def test_selecting_the_short_ones_gives_the_memory_of_the_long_one_back() -> None:
    histories = Histories(2, -1)
    histories.write([5, 5000])
    assert histories.state.select([0]).num_bytes < histories.state.num_bytes / 500


@over_windows
def test_selecting_nobody_then_joining(window: int) -> None:
    histories = Histories(2, window)
    histories.write([9, 2])
    nobody = histories.state.select([])
    assert nobody.num_sequences == 0
    histories.state = KVState.join([nobody, histories.state])
    histories.check()


def test_the_window_is_the_one_of_the_definition() -> None:
    """Window w sees positions t-w .. t: with equal scores the output is the mean of the last w+1 values."""
    length, window = 20, 3
    q = torch.zeros(length, 1, 2, dtype=torch.float64)
    v = torch.randn(length, 1, 2, dtype=torch.float64)
    y, _ = attention(q, q, v, window, Sequences.from_lengths([length]))
    for t in range(length):
        torch.testing.assert_close(y[t], v[max(0, t - window) : t + 1].mean(0))


def paged(num_sequences: int, max_pages: int, positions: int) -> PagedKVState:
    """In pages that are in no order, full of what must not be seen."""
    num_pages = num_sequences * max_pages
    return PagedKVState(
        num_seen=torch.zeros(num_sequences, dtype=torch.int64),
        table=torch.randperm(num_pages).view(num_sequences, max_pages),
        pages=torch.full((num_pages, 2 * positions * HEADS * WIDTH + 5), torch.nan),
        num_heads=HEADS,
        head_dim=WIDTH,
    )


@over_windows
@given(pieces=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=8))
def test_pages_hold_what_a_buffer_holds(window: int, pieces: list[list[int]]) -> None:
    state, pages = new(4), paged(4, 19, positions=4)
    before = pages.pages.data_ptr()
    slots = torch.tensor([2, 0, 3])
    for lengths in pieces:
        k = torch.randn(sum(lengths), HEADS, WIDTH)
        seqs = Sequences.from_lengths(lengths, slots)
        state, pages = state.write(k, -k, window, seqs), pages.write(k, -k, window, seqs)
        assert pages.num_seen.equal(state.num_seen)
        first, num_held = state.num_seen[slots], pages.num_held(window, seqs)
        assert num_held == min(int(first.max()), window + 1 if window >= 0 else 99)
        for found, expected in zip(
            pages.visible(first, num_held, window, seqs), state.visible(first, num_held, window, seqs), strict=True
        ):
            exists = state.visible(first, num_held, window, seqs)[2]
            assert found[exists].equal(expected[exists])
            assert found[~exists].count_nonzero() == 0
        held = torch.arange(num_held) < first[:, None]
        for found, expected in zip(pages.held(window, seqs), state.held(window, seqs), strict=True):
            assert found[held].equal(expected[:, :num_held][held])
            assert found[~held].count_nonzero() == 0
    assert pages.pages.data_ptr() == before


@over_windows
def test_attention_over_pages_is_attention_over_a_buffer(window: int) -> None:
    state, pages = new(3), paged(3, 20, positions=4)
    for lengths in ([5, 0, 30], [1, 1, 1], [0, 9, 1], [1, 0, 1]):
        q, k, v = (torch.randn(sum(lengths), HEADS, WIDTH) for _ in range(3))
        seqs = Sequences.from_lengths(lengths, torch.tensor([1, 2, 0]))
        for backend in ("reference", None):
            y, _ = attention(q, k, v, window, seqs, state.clone(), backend=backend)
            copied = PagedKVState(
                pages.num_seen.clone(), pages.table, pages.pages.clone(), pages.num_heads, pages.head_dim
            )
            torch.testing.assert_close(attention(q, k, v, window, seqs, copied, backend=backend)[0], y)
        state, pages = state.write(k, v, window, seqs), pages.write(k, v, window, seqs)


def test_pages_are_not_copied_and_their_slots_are_named() -> None:
    state = paged(2, 3, positions=4)
    for call in (lambda: state.select([0]), state.clone, lambda: PagedKVState.join([state, state])):
        with pytest.raises(TypeError, match="shares the pages of a pool with other states"):
            call()
    x = torch.randn(2, HEADS, WIDTH)
    with pytest.raises(ValueError, match="the sequences must name their slots"):
        attention(x, x, x, -1, Sequences.from_lengths([1, 1]), state)
    with pytest.raises(ValueError, match=r"the state has heads \(2, 3\), but this call needs \(3, 2\)"):
        attention(*[x.view(2, 3, 2)] * 3, -1, Sequences.from_lengths([1, 1], torch.tensor([0, 1])), state)

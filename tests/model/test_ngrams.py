"""Hashed n-gram embeddings: the hash against its definition, how they start and learn, and who refuses them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.generation.stepper.cpu.supports import unsupported
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import forward_flops_per_byte
from hnet_lm.model.ngrams import HashedNgrams
from hnet_lm.model.sizes import parameters_by_part, state_bytes_by_part
from hnet_lm.ngram_config import NgramConfig
from hnet_lm.official import parameter_names
from hnet_lm.sequences import Sequences
from hnet_lm.training.optimizer import decays
from hnet_lm.web.exporting import require_supported

SIZES, NUM_ROWS, WIDTH = (2, 3, 5), 50, 16
PLAIN: dict[str, Any] = {
    "arch_layout": ["t1"],
    "d_model": [WIDTH],
    "d_intermediate": [0],
    "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [4], "window_size": [-1]},
}


def config(**changes: Any) -> HNetConfig:
    return HNetConfig.from_dict({**PLAIN, "ngrams": {"sizes": list(SIZES), "num_rows": NUM_ROWS}, **changes})


def model(seed: int = 0, **changes: Any) -> HNetLM:
    torch.manual_seed(seed)
    return HNetLM(config(**changes))


def row_of(ngram: list[int], number: int) -> int:
    """The table's row of an n-gram, oldest byte first, of the size of this number: by the definition, in integers."""
    a = 0x9E3779B97F4A7C15
    hashed = sum((byte + 1) * pow(a, j + 1, 2**64) for j, byte in enumerate(reversed(ngram))) % 2**64
    signed = hashed - 2**64 if hashed >= 2**63 else hashed
    return number * NUM_ROWS + (signed >> 32) % NUM_ROWS


def sums(table: Tensor, ids: list[int]) -> Tensor:
    """What is added at each position of one sequence."""
    added = torch.zeros(len(ids), WIDTH, dtype=table.dtype)
    for t in range(len(ids)):
        for number, size in enumerate(SIZES):
            if t + 1 >= size:
                added[t] += table[row_of(ids[t + 1 - size : t + 1], number)]
    return added


def test_the_sums_are_those_of_the_definition_also_in_pieces() -> None:
    ngrams = HashedNgrams(NgramConfig(SIZES, NUM_ROWS), WIDTH).double()
    torch.nn.init.normal_(ngrams.embedding.weight)
    sequences = [torch.randint(256, (n,)) for n in (9, 0, 1, 30)]
    expected = [sums(ngrams.embedding.weight, ids.tolist()) for ids in sequences]
    zeros = torch.zeros(40, WIDTH, dtype=torch.float64)

    def added(pieces: list[Tensor], state: Any) -> tuple[tuple[Tensor, ...], Any]:
        lengths = [len(piece) for piece in pieces]
        seqs = Sequences.from_lengths(lengths).with_input_ids(torch.cat(pieces))
        y, state = ngrams(zeros[: sum(lengths)], seqs, state)
        return y.split(lengths), state

    whole, state = added(sequences, None)
    assert state is None
    torch.testing.assert_close(list(whole), expected)
    state, parts = ngrams.new_state(4), [[], [], [], []]
    for cut in (slice(0, 2), slice(2, 3), slice(3, 3), slice(3, None)):
        found, state = added([ids[cut] for ids in sequences], state)
        for part, y in zip(parts, found, strict=True):
            part.append(y)
    torch.testing.assert_close([torch.cat(part) for part in parts], expected)


def test_ngrams_of_text_spread_over_the_rows() -> None:
    """All pairs of letters in a power of two of rows: as even as by chance, where the lowest bits would collide."""
    ngrams = HashedNgrams(NgramConfig((2,), 256), 4)
    pairs = torch.cartesian_prod(torch.arange(97, 123), torch.arange(97, 123)).flatten()
    seqs = Sequences.from_lengths([2] * (len(pairs) // 2)).with_input_ids(pairs)
    rows, is_there, _ = ngrams.rows(seqs, None)
    counts = rows[is_there].bincount(minlength=256)
    assert int(counts.sum()) == 26 * 26
    assert counts.max() < 12  # 2.6 on average
    assert (counts > 0).float().mean() > 0.85


def test_it_starts_as_the_plain_model() -> None:
    torch.manual_seed(0)
    plain, ours = HNetLM(HNetConfig.from_dict(PLAIN)), model()
    ids = torch.randint(254, (40,))
    assert ours(ids).logits.equal(plain(ids).logits)
    added = ours.state_dict().keys() - plain.state_dict().keys()
    assert added == {"ngrams.embedding.weight"}
    assert list(plain.new_state(2).sizes()) == [name.removeprefix("network.") for name in ours.new_state(2).sizes()][1:]


def test_only_rows_that_were_met_learn() -> None:
    ours, ids = model(), [3, 4, 3, 4, 250, 3]
    ours(torch.tensor(ids)).logits.logsumexp(-1).sum().backward()
    assert ours.ngrams is not None
    gradient = ours.ngrams.embedding.weight.grad
    assert gradient is not None
    met = {
        row_of(ids[t + 1 - size : t + 1], number)
        for number, size in enumerate(SIZES)
        for t in range(size - 1, len(ids))
    }
    assert {row for row, values in enumerate(gradient) if values.any()} == met


def test_it_is_saved_counted_and_not_decayed(tmp_path: Path) -> None:
    ours = model()
    assert ours.ngrams is not None
    torch.nn.init.normal_(ours.ngrams.embedding.weight)
    checkpoint.save(ours, tmp_path / "model")
    loaded, ids = checkpoint.load(tmp_path / "model"), torch.randint(254, (20,))
    assert loaded.config == ours.config
    assert loaded(ids).logits.equal(ours(ids).logits)
    assert ours.parameter_stages()["ngrams.embedding.weight"] == 0
    assert not decays("ngrams.embedding.weight", dict(ours.named_parameters())["ngrams.embedding.weight"])
    assert parameters_by_part(ours)[0, "ngrams"] == len(SIZES) * NUM_ROWS * WIDTH
    assert state_bytes_by_part(ours, (), 100)[0, "ngrams"] == 8 * (SIZES[-1] - 1)
    plain = forward_flops_per_byte(HNetConfig.from_dict(PLAIN), (), 100)
    assert forward_flops_per_byte(ours.config, (), 100) == {**plain, (0, "ngrams"): len(SIZES) * WIDTH}


def test_encoding_goes_on_from_its_state() -> None:
    ours = model()
    assert ours.ngrams is not None
    torch.nn.init.normal_(ours.ngrams.embedding.weight)
    ids = torch.randint(254, (20,))
    first = ours.encode(ids[:7], state=ours.new_state(1))
    second = ours.encode(ids[7:], state=first.state)
    torch.testing.assert_close(torch.cat([first.chunks, second.chunks]), ours.encode(ids).chunks)


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        ({"sizes": []}, r"ngrams.sizes: is empty"),
        ({"sizes": [1, 2]}, r"ngrams.sizes: must be a whole number from 2 "),
        ({"sizes": [3, 2]}, r"ngrams.sizes: must rise and end at 64 or below, got \[3, 2\]"),
        ({"sizes": [65]}, r"ngrams.sizes: must rise and end at 64 or below, got \[65\]"),
        ({"num_rows": 0}, r"ngrams.num_rows: must be a whole number from 1 "),
        ({"rows": 5}, r"ngrams: unknown key 'rows'; did you mean 'num_rows'"),
        (True, r"ngrams: must be an object with the keys sizes, num_rows, got True"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(ngrams: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(ngrams=ngrams)


def test_defaults_are_written_out() -> None:
    written = config(ngrams={}).to_dict()["ngrams"]
    assert written == {"sizes": [2, 3, 4, 5, 6], "num_rows": 4096}


def test_who_does_not_have_them_refuses_in_one_line() -> None:
    with pytest.raises(ConfigError, match="ngrams: go with a model of bytes, not with reads_tokens"):
        config(reads_tokens=True)
    with pytest.raises(ConfigError, match="the reference code cannot hold this model: it has no ngrams"):
        parameter_names(model())
    with pytest.raises(UserError, match="its configuration has ngrams, which a page cannot run"):
        require_supported(config(), "mine")
    assert unsupported(model()) == "ngrams is a HashedNgrams"

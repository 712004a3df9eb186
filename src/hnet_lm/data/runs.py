"""Runs: a part of a document as tokens, with BOS before its beginning and EOS after its end."""

from typing import NamedTuple

from hnet_lm.data.parts import Part


class Run(NamedTuple):
    """Consecutive tokens of one document: `tokens[:-1]` are inputs, `tokens[1:]` their targets.

    Tokens are bytes; a zero represents BOS before a document's beginning, and EOS after its end.
    """

    tokens: bytes
    starts: bool
    ends: bool
    origin: tuple[int, int, int, int, int]  # ORIGIN_COLUMNS
    num_masked: int = 0  # number of the first targets that belong to a prompt and do not count

    @property
    def num_inputs(self) -> int:
        return len(self.tokens) - 1

    def after(self, num_inputs: int) -> "Run":
        """The rest after the first positions."""
        origin = (*self.origin[:-1], self.origin[-1] + num_inputs)
        return Run(self.tokens[num_inputs:], False, self.ends, origin, max(0, self.num_masked - num_inputs))


def run_of(part: Part, source: int, epoch: int, file: int) -> Run:
    """The part with its BOS and EOS."""
    tokens = b"".join((b"\0" if part.starts else b"", part.data, b"\0" if part.ends else b""))
    first_target = part.offset if part.starts else part.offset + 1
    return Run(tokens, part.starts, part.ends, (source, epoch, file, part.record, first_target), part.num_prompt)

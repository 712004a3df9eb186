"""The laws that every part is held to, as one call for each kind of part: for tests of parts of one's own.

    check_chunker(Punctuation(marks=".,;"))             check_data_format(Paragraphs(), "a.txt", [b"one", b"two"])
    check_loss_term(Sharpness(weight=0.1))              check_op_backend("ema_scan", "my_ops")

Each raises AssertionError with the law that is broken. The parts of this package are tested by the same calls.
"""

from hnet_lm.testing.chunker import check_chunker
from hnet_lm.testing.data_format import check_data_format
from hnet_lm.testing.loss_term import check_loss_term
from hnet_lm.testing.op_backend import check_op_backend

__all__ = ["check_chunker", "check_data_format", "check_loss_term", "check_op_backend"]

"""Where Chinese words start, as segmented by jieba (its dictionary, and its hidden Markov model for unknown words).

Needs the `jieba` package.
"""

import logging
import warnings

import numpy as np

from hnet_lm.inspect.characters import utf8_lengths

with warnings.catch_warnings():  # about escapes in its source, which Python 3.12 prints when it compiles it
    warnings.simplefilter("ignore")
    import jieba

jieba.setLogLevel(logging.WARNING)  # it prints to standard error how long loading its dictionary took


def chinese_word_offsets(data: bytes) -> np.ndarray:
    """The first byte of every word and punctuation mark, without white space."""
    text = data.decode("utf-8", "surrogateescape")
    byte_of_character = np.concatenate([[0], np.cumsum(utf8_lengths(text))])
    starts = [start for word, start, _ in jieba.tokenize(text) if word.strip()]
    return byte_of_character[np.array(starts, dtype=np.int64)]

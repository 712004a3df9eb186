"""Where the tokens of a BPE tokenizer start, from a `tokenizer.json`. Needs the `tokenizers` package."""

import os
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from hnet_lm.errors import DataError
from hnet_lm.inputs import local, read_text
from hnet_lm.inspect.characters import utf8_lengths


def bpe_offsets(data: bytes, tokenizer_path: Path) -> np.ndarray:
    """The first byte of every token, of its first whole character where a token starts inside one.

    Raises DataError for a tokenizer that cannot be read and for bytes that are not UTF-8.
    """
    if not os.path.exists(local(tokenizer_path)):
        raise DataError(f"{tokenizer_path}: no such file; give the path of a tokenizer.json")
    description = read_text(tokenizer_path)
    try:
        tokenizer = Tokenizer.from_str(description)
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{tokenizer_path}: not a tokenizer.json: {error}") from None
    tokenizer.no_truncation()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"BPE tokens exist only for UTF-8 text; byte {error.start} of the text is not") from None
    byte_of_character = np.concatenate([[0], np.cumsum(utf8_lengths(text))])
    # in characters, also where the tokenizer works on bytes
    starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]
    return np.unique(byte_of_character[np.array(starts, dtype=np.int64)])

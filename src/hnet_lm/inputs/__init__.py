"""The one place where inputs are opened: data, references, configurations, lists of words or keys, prompts.

`open_input` gives a readable binary stream, whatever the input is: a file, `~/a/file`, `-` for standard input, a pipe
or `<(a process)`, a URL that fsspec knows. Compression is told by the first bytes and not by the name. Nothing needs a
seek unless it begins in the middle. `read_text` and `read_lines` are for text that people edit: a byte-order mark is
passed over, and another encoding is named. What goes wrong is one `UserError` with the path and the reason.
"""

from hnet_lm.inputs.compression import COMPRESSION_OF_SUFFIX
from hnet_lm.inputs.fingerprint import fingerprint
from hnet_lm.inputs.opening import (
    BUFFER_BYTES,
    READ_ERRORS,
    STANDARD_INPUT,
    is_compressed,
    open_input,
    open_stored,
    opened,
    reason_of,
    require_content,
)
from hnet_lm.inputs.paths import content_suffix, expand, is_pipe, is_remote, local
from hnet_lm.inputs.text import decoded_lines, read_bytes, read_lines, read_text, without_mark

__all__ = [
    "BUFFER_BYTES",
    "COMPRESSION_OF_SUFFIX",
    "READ_ERRORS",
    "STANDARD_INPUT",
    "content_suffix",
    "decoded_lines",
    "expand",
    "fingerprint",
    "is_compressed",
    "is_pipe",
    "is_remote",
    "local",
    "open_input",
    "open_stored",
    "opened",
    "read_bytes",
    "read_lines",
    "read_text",
    "reason_of",
    "require_content",
    "without_mark",
]

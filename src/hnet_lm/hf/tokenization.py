"""The tokenizer: a byte is a token. BOS in front of every text, as these models were trained."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from transformers import AddedToken, PreTrainedTokenizer

from hnet_lm.errors import UserError
from hnet_lm.hf.configuration import REMOTE_FILE
from hnet_lm.hf.modeling import TEMPLATE

BOS, EOS = "<bos>", "<eos>"


class HNetLMTokenizer(PreTrainedTokenizer):
    """UTF-8. Text never holds a special token: `<bos>` typed by somebody is five bytes.

    Bytes that are no UTF-8 are what Python's `surrogateescape` makes of them, on the way in. Padding is EOS, on the
    left; the attention mask says what it is.
    """

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]
    vocab_files_names: ClassVar[dict[str, str]] = {}
    padding_side = "left"
    _auto_map: ClassVar[dict[str, Any]] = {"AutoTokenizer": [f"{REMOTE_FILE}.HNetLMTokenizer", None]}

    def __init__(self, num_ids: int = 256, add_bos_token: bool = True, add_eos_token: bool = False, **kwargs: Any):
        """`num_ids`: the model's `vocab_size`, of which the last two are BOS and EOS: 256 (text) or 258 (any bytes)."""
        if num_ids not in (256, 258):
            raise UserError(f"num_ids: a model of bytes has 256 ids (text) or 258 (any bytes), not {num_ids}")
        self.num_ids = num_ids
        self.add_bos_token, self.add_eos_token = add_bos_token, add_eos_token
        special = {num_ids - 2: BOS, num_ids - 1: EOS}
        self._added_tokens_decoder = {id: AddedToken(text, special=True) for id, text in special.items()}
        fixed = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": None}
        kwargs = {"split_special_tokens": True, "clean_up_tokenization_spaces": False, **kwargs, **fixed}
        kwargs.pop("added_tokens_decoder", None)
        super().__init__(num_ids=num_ids, add_bos_token=add_bos_token, add_eos_token=add_eos_token, **kwargs)

    @property
    def vocab_size(self) -> int:
        return self.num_ids

    def get_vocab(self) -> dict[str, int]:
        """A byte is named by the character of the same number."""
        return {self._convert_id_to_token(id): id for id in range(self.num_ids)}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Raises UserError for text that no bytes are, and for a byte that the model reads as BOS or EOS."""
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UserError(f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}") from error
        if self.num_ids == 256 and (special := {254, 255} & set(data)):
            raise UserError(
                f"the text holds the byte {min(special):#x}, which this model reads as the start or end of a text; "
                "binary data needs a model with a vocabulary of 258"
            )
        return [chr(byte) for byte in data]

    def _convert_token_to_id(self, token: str) -> int | None:
        return ord(token) if len(token) == 1 and ord(token) < min(256, self.num_ids) else None

    def _convert_id_to_token(self, index: int) -> str:
        special = self._added_tokens_decoder.get(index)
        return chr(index) if special is None else special.content

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes(token) for token in tokens).decode("utf-8", "replace")

    def _bytes(self, token: str) -> bytes:
        return bytes([ord(token)]) if len(token) == 1 and ord(token) < 256 else token.encode()

    def to_bytes(self, ids: Any) -> bytes:
        """The bytes that ids say, exactly; special ones say nothing."""
        return bytes(id for id in map(int, ids) if id < min(256, self.num_ids - 2))

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """BOS text EOS, as far as they are asked for; a second text goes on from the first."""
        before = [self.num_ids - 2] if self.add_bos_token else []
        after = [self.num_ids - 1] if self.add_eos_token else []
        return [*before, *token_ids_0, *(token_ids_1 or []), *after]

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        ids = token_ids_0
        if not already_has_special_tokens:
            ids = self.build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        return [int(id >= self.num_ids - 2) for id in ids]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with the small file that `trust_remote_code=True` runs."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TEMPLATE, Path(save_directory) / f"{REMOTE_FILE}.py")
        return super().save_pretrained(save_directory, *args, **kwargs)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """None is needed."""
        return ()

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoTokenizer") -> None:
        """Nothing: a saved directory names its own file, whichever way the tokenizer was loaded."""

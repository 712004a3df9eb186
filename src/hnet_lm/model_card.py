"""The model card: the README.md beside a saved model, with the metadata that the Hugging Face hub reads.

A card says what is known: the model's size always, and of a run its data, bits per byte and chunks. It carries a line
by which it is known as ours again. A README.md without that line is somebody's own, and is never replaced.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM

CARD = "README.md"
MARK = "<!-- Written by hnet-lm, and again whenever the model is saved here. Remove this line, and it stays. -->"
HEADING = "| | |"
RULE = "|---|---|"
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")

LOADING = """```python
import hnet_lm

model = hnet_lm.load("DIRECTORY")  # this one, or "hf:OWNER/NAME"
print(hnet_lm.generate(model, ["Once upon a time"], max_new_bytes=100)[0])
print(hnet_lm.chunks(model, "where this model cuts a text"))
```"""
LOADING_TOKENS = """```python
import hnet_lm

model, tokenizer = hnet_lm.load("DIRECTORY"), hnet_lm.load_tokenizer("DIRECTORY")
print(hnet_lm.generate(model, ["Once upon a time"], max_new_bytes=100, tokenizer=tokenizer)[0])
```"""
LOADING_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

import hnet_lm.hf  # pip install 'hnet-lm[hf]'

tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")  # this one, or "OWNER/NAME"
model = AutoModelForCausalLM.from_pretrained("DIRECTORY")
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=100)[0], skip_special_tokens=True))
```

`trust_remote_code=True` does without `import hnet_lm.hf`, but not without the package.
`hnet_lm.load("DIRECTORY")` reads the same files."""


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model beyond its weights."""

    facts: Mapping[str, str] = field(default_factory=dict)
    """Rows of a table, in order."""
    license: str | None = None
    """As the hub names it, such as `mit`; None: not known."""

    def __post_init__(self) -> None:
        if self.license is not None and not LICENSE.fullmatch(self.license):
            raise UserError(f"license: {self.license!r} is no name of a licence; the hub's are like mit or apache-2.0")

    def of_model(self, config: HNetConfig, num_parameters: int) -> "ModelCard":
        """With what the model itself says."""
        unit = "tokens" if config.reads_tokens else "bytes"
        own = {
            "parameters": f"{num_parameters:,}",
            "layout": f"`{_layout(config)}`",
            "widths": ", ".join(str(stage.d_model) for stage in config.stages),
            "vocabulary": f"{config.vocab_size} ({unit})",
        }
        return replace(self, facts=own | {key: value for key, value in self.facts.items() if key not in own})

    def text(self, name: str, config: HNetConfig, *, for_transformers: bool = False) -> str:
        """Markdown behind the metadata."""
        tags = ["hnet-lm", *(["h-net"] if config.num_stages else []), *([] if config.reads_tokens else BYTE_TAGS)]
        metadata = {
            "library_name": "transformers" if for_transformers else "hnet-lm",
            "pipeline_tag": "text-generation",
            "tags": f"[{', '.join(tags)}]",
            **({} if self.license is None else {"license": self.license}),
        }
        kind = "tokens" if config.reads_tokens else "bytes"
        what = f"A language model of {kind}"
        if config.num_stages:
            times = "once" if config.num_stages == 1 else f"{config.num_stages} times over"
            what += f" that groups them into chunks {times} (H-Net, arXiv 2507.07955)"
        loading = LOADING_TRANSFORMERS if for_transformers else LOADING_TOKENS if config.reads_tokens else LOADING
        lines = [
            "---",
            *(f"{key}: {value}" for key, value in metadata.items()),
            "---",
            "",
            MARK,
            "",
            f"# {name}",
            "",
            f"{what}, made with hnet-lm.",
            "",
            HEADING,
            RULE,
            *(f"| {_cell(key)} | {_cell(value)} |" for key, value in self.facts.items()),
            "",
            "## How to load it",
            "",
            loading,
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, directory: str | Path) -> "ModelCard":
        """The card in a directory; an empty one where there is none, or one of somebody's own."""
        text = _read(Path(directory) / CARD)
        if text is None or MARK not in text:
            return cls()
        head, _, body = text.partition(MARK)
        license = re.search(r"^license: (.*)$", head, re.MULTILINE)
        rows = re.findall(r"^\| (.+?) \| (.*) \|$", body.partition(RULE)[2], re.MULTILINE)
        known = license is not None and LICENSE.fullmatch(license[1])
        return cls({key: _uncell(value) for key, value in rows}, license[1] if license and known else None)


BYTE_TAGS = ("byte-level", "tokenizer-free")


def card_for(directory: Path, config: HNetConfig, card: ModelCard | None, *, for_transformers: bool = False) -> bytes:
    """The README.md that a directory gets: somebody's own if one is there, else this card. Raises OSError."""
    if is_own(directory):
        return (directory / CARD).read_bytes()
    known = (card or ModelCard()).of_model(config, num_parameters(config))
    name = directory.resolve().name or "model"
    return known.text(name, config, for_transformers=for_transformers).encode("utf-8", "replace")


def num_parameters(config: HNetConfig) -> int:
    """Of a model without what may have been put into it, such as an adapter."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in HNetLM(config).parameters())


def is_own(directory: Path) -> bool:
    """Whether there is a README.md that somebody wrote: anything there without our mark, readable or not."""
    path = directory / CARD
    return path.exists() and MARK not in (_read(path) or "")


def _read(path: Path) -> str | None:
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else None


def _layout(config: HNetConfig) -> str:
    layout = config.stages[-1].main_network or ""
    for stage in reversed(config.stages[:-1]):
        layout = f"{stage.encoder} [{layout}] {stage.decoder}"
    return layout


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _uncell(text: str) -> str:
    return text.replace("\\|", "|")

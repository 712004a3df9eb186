"""`hnet-lm export hf`."""

from dataclasses import dataclass, replace

from hnet_lm.checkpoint import load, local_directory
from hnet_lm.checks import require_number
from hnet_lm.cli.export.format import Export
from hnet_lm.cli.sources import say
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.model_card import CARD, ModelCard
from hnet_lm.outputs import OutputFolder
from hnet_lm.training.progress import waiting


@dataclass(frozen=True)
class ExportHuggingFace(Export):
    """A directory that Hugging Face transformers loads, by `import hnet_lm.hf` or with trust_remote_code=True."""

    target_ratios: tuple[float, ...] = ()
    """Positions per chunk that training with transformers aims at, of every stage that learns where to cut, outermost
    first; the paper's by default."""
    ratio_loss_weight: float = 0.03
    """Weight of the ratio loss when transformers trains the model."""
    license: str | None = None
    """What the card says, as the hub names it: mit, apache-2.0 and so on; by default what the model's own card says."""

    push: str | None = None
    """Upload the directory to the hub as owner/name; `hf auth login` comes first."""
    private: bool = False
    """Make the repository on the hub a private one, if it is not there yet."""

    def run(self) -> None:
        require_number("--ratio-loss-weight", self.ratio_loss_weight, 0, error=UserError)
        hf = import_leaf("hnet_lm.hf.export", "hf", "export hf")
        hub = import_leaf("hnet_lm.hub", "hf", "export hf --push")
        if self.private and self.push is None:
            raise UserError("--private goes with --push owner/name")
        OutputFolder.tried(self.directory)
        with waiting(f"exporting {self.model}", say):
            model = load(self.model)
            card = ModelCard.read(local_directory(self.model, (CARD,)))
            if self.license is not None:
                card = replace(card, license=self.license)
            hf.export(
                model,
                self.directory,
                target_ratios=self.target_ratios or None,
                ratio_loss_weight=self.ratio_loss_weight,
                card=card,
            )
        print(f"{self.directory}: for transformers; `import hnet_lm.hf`, or trust_remote_code=True")
        if self.push is not None:
            with waiting(f"uploading {self.directory}", say):
                address = hub.push(self.directory, self.push, private=self.private)
            print(f"hf:{self.push}: {address}")

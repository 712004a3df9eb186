"""`hnet-lm models`: the trained models that come with the package."""

from dataclasses import dataclass

from hnet_lm.cli.tables import print_table
from hnet_lm.cli.terminal import print_json
from hnet_lm.trained_models import models

HEADINGS = ("model", "parameters", "trained on", "bits/byte", "measured on", "bytes/chunk", "licence")


@dataclass(frozen=True)
class Command:
    """List the trained models that come with hnet-lm; each name works wherever a model is named."""

    json: bool = False
    """Print their cards as JSON instead of a table."""

    def run(self) -> None:
        found = models()
        if self.json:
            print_json({model.name: dict(model.card) for model in found})
            return
        rows = []
        for model in found:
            text, figures = next(iter(model.card["measured"].items()))
            chunks = " > ".join(f"{length:.2f}" for length in figures["bytes_per_chunk"])
            rows.append(
                [
                    model.name,
                    f"{model.card['num_parameters'] / 1e6:.1f} M",
                    f"{model.card['trained_bytes'] / 1e6:.1f} MB of {model.card['data']}",
                    f"{figures['bits_per_byte']:.3f}",
                    text,
                    chunks,
                    model.card["licence"],
                ]
            )
        print_table(HEADINGS, rows, text_columns=(0, 2, 4, 6))
        print(f"hnet-lm generate {found[0].name} 'It was' continues a text; hnet-lm serve {found[0].name} has a page.")

"""Parameters and state by part: against the models, the documented tables and the paper's totals."""

import re
from pathlib import Path

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.layout import parse_layout
from hnet_lm.model import HNetLM
from hnet_lm.model.sizes import parameters_by_part, state_bytes_by_part
from hnet_lm.named_configs import FOLDER
from hnet_lm.weights import meta_model

ROOT = Path(__file__).parent.parent.parent
MODELS = FOLDER / "models"


def documented() -> dict[str, dict[str, int]]:
    """docs/parameters.md: config -> "stage part" (or "total") -> parameters."""
    tables: dict[str, dict[str, int]] = {}
    columns: list[str] = []
    for line in (ROOT / "docs" / "parameters.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:2] == ["stage", "part"]:
            columns = cells[2:]
        elif len(cells) == len(columns) + 2 and re.fullmatch(r"\d?", cells[0]):
            for column, cell in zip(columns, cells[2:], strict=True):
                if cell:
                    tables.setdefault(column, {})[f"{cells[0]} {cells[1]}".strip()] = int(cell.replace(",", ""))
    return tables


PAPER = {"hnet_1stage_L": 680e6, "hnet_1stage_XL": 1.3e9, "hnet_2stage_L": 870e6, "hnet_2stage_XL": 1.6e9}


@pytest.mark.parametrize("name", [*PAPER, "hnet_2stage_XL_chinese", "hnet_2stage_XL_code"])
def test_published_models_have_the_documented_parameters(name: str):
    model = meta_model(HNetConfig.load(MODELS / f"{name}.json"))
    parts = parameters_by_part(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert sum(parts.values()) == total
    assert {f"{stage} {part}": count for (stage, part), count in parts.items()} | {"total": total} == documented()[name]
    if name in PAPER:
        assert float(f"{total:.1e}") == PAPER[name]  # to the paper's two digits


def test_tied_embeddings_have_no_head():
    config = HNetConfig.from_dict(HNetConfig.load(MODELS / "tiny_1stage.json").to_dict() | {"tie_embeddings": True})
    assert (0, "head") not in parameters_by_part(meta_model(config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["tiny_isotropic", "tiny_1stage", "tiny_2stage"])
def test_state_is_as_large_as_the_one_a_model_really_carries(name: str, dtype: torch.dtype):
    """But for the steps of 64 positions in which the room for keys and values grows."""
    model = HNetLM(HNetConfig.load(MODELS / f"{name}.json")).to(dtype)
    length = 128
    with torch.no_grad():
        out = model(torch.randint(0, 254, (length,)), state=model.new_state(1))
    assert out.state is not None
    bytes_per_chunk = [length / int(routing.is_boundary.sum()) for routing in out.routings]
    predicted = sum(state_bytes_by_part(model, bytes_per_chunk, length).values())
    room = 0 if name == "tiny_isotropic" else 64 * bytes_of_one_position(model)
    assert predicted <= out.state.num_bytes <= predicted + room


def bytes_of_one_position(model: HNetLM) -> int:
    """Keys and values of one position in every attention layer."""
    return sum(
        2 * stage.d_model * model.embedding.weight.element_size()
        for stage in model.config.stages
        for layout in stage.layouts.values()
        for block in parse_layout(layout)
        if block.mixer == "attention"
    )


def test_a_window_bounds_the_state():
    config = HNetConfig.load(MODELS / "hnet_2stage_L.json")
    model = meta_model(config)
    short, long = (state_bytes_by_part(model, [1.0, 8.0], length) for length in (8192, 16384))
    assert short[0, "encoder"] == long[0, "encoder"]  # Mamba-2 only
    assert short[1, "encoder"] == long[1, "encoder"]  # a window of 1023
    assert long[2, "main_network"] - short[2, "main_network"] == 26 * 2 * 1024 * 1536 * 4

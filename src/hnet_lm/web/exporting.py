"""A model as a folder of static files: a page in which it runs, in any browser and without a network.

    index.html            the page, the one that is served
    static/               its style, and three scripts:
        model.js          weights in base64, and a manifest that says what they are
        engine.js         the forward pass, which the page starts in a thread of its own
        page.js           the page's modules, joined

Whoever opens index.html as a file gets no modules and no data from a browser but through `<script>`, so all of it is
scripts. Linear maps are in 8-bit integers with a scale per row, as `--precision int8` has them; what is not rounded
there is in float32 here as well.
"""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import torch

from hnet_lm.chunker_config import LearnedChunkerConfig
from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.generation.rounded_weights import with_weights
from hnet_lm.layout import parse_layout
from hnet_lm.model import HNetLM
from hnet_lm.stage_config import StageConfig
from hnet_lm.web.bundling import bundle

MAX_PROMPT_BYTES, MAX_NEW_BYTES = 32_768, 8192
"""What the page takes; as a server's by default."""

_PLAIN = {"arch_layout", "d_model", "d_intermediate", "vocab_size", "ssm_cfg", "attn_cfg", "tie_embeddings", "chunkers"}
_PLAIN_ATTENTION = {"num_heads", "rotary_emb_dim", "window_size"}
_MODULES = '<script type="module" src="static/app.js"></script>'
_SCRIPTS = "".join(f'<script defer src="static/{name}.js"></script>\n' for name in ("model", "engine", "page")).rstrip()


def web_files(model: HNetLM, name: str, run: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The files by their paths in the folder. `run` is what `FollowedRun.summary` says of the run that trained it.

    Raises UserError for a model with parts that the page does not have.
    """
    require_supported(model.config, name)
    page, engine = files_of("page"), files_of("engine")
    index = page["index.html"]
    if _MODULES not in index:
        raise ValueError(f"index.html no longer has {_MODULES}")
    return {
        "index.html": index.replace(_MODULES, _SCRIPTS),
        "static/style.css": page["style.css"],
        "static/icon.svg": page["icon.svg"],
        "static/page.js": bundle(page, "app.js", {"api.js": "local.js"}),
        "static/engine.js": f"globalThis.hnetEngine = function () {{\n{bundle(engine, 'worker.js')}}};\n",
        "static/model.js": _model_script(model, name, run),
    }


def require_supported(config: HNetConfig, name: str) -> None:
    """Raises UserError that names the first thing the page's forward pass does not have."""
    if config.reads_tokens:
        raise UserError(f"{name}: reads tokens of a tokenizer; a page can run models of bytes")
    written = config.to_dict()
    beyond = sorted(set(written) - _PLAIN) + sorted(
        f"attn_cfg.{key}" for key in set(written["attn_cfg"]) - _PLAIN_ATTENTION
    )
    if beyond:
        raise UserError(f"{name}: its configuration has {beyond[0]}, which a page cannot run")
    others = [chunker.name for chunker in config.all_chunkers if chunker.name != "dynamic"]
    if others:
        raise UserError(
            f"{name}: is cut by the chunker {others[0]!r}; a page can run the routing module alone ('dynamic')"
        )


def _model_script(model: HNetLM, name: str, run: Mapping[str, Any] | None) -> str:
    entries: dict[str, Any] = {}
    data = bytearray()
    for tensor_name, tensor in with_weights(model.cpu(), "int8").state_dict().items():
        data += bytes(-len(data) % 4)  # where a view of float32 may begin
        kind = "int8" if tensor.dtype == torch.int8 else "float32"
        entries[tensor_name] = {"dtype": kind, "shape": list(tensor.shape), "offset": len(data)}
        data += tensor.contiguous().numpy().astype(np.dtype(kind).newbyteorder("<")).tobytes()
    config = model.config
    described = {
        "id": name,
        "num_stages": config.num_stages,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": config.to_dict(),
        "weights": f"int8, {len(data) / 1e6:.1f} MB",
        "has_run": run is not None,
        "max_prompt_bytes": MAX_PROMPT_BYTES,
        "max_new_bytes": MAX_NEW_BYTES,
    }
    manifest = {"model": described, "run": run, "architecture": _architecture(config), "tensors": entries}
    encoded = base64.b64encode(data).decode("ascii")
    return f"globalThis.hnetModel = {{ manifest: {json.dumps(manifest)}, weights: {json.dumps(encoded)} }};\n"


def _architecture(config: HNetConfig) -> dict[str, Any]:
    """How the parts are put together, as engine/lm.js reads it."""
    stages = [_stage(stage) for stage in config.stages]
    for stage, chunker in zip(stages, config.all_chunkers, strict=False):
        assert isinstance(chunker, LearnedChunkerConfig)
        stage["threshold"] = chunker.threshold
    return {
        "stages": stages,
        "mamba2": {"d_state": config.mamba2.d_state, "d_conv": config.mamba2.d_conv},
        "vocab_size": config.vocab_size,
        "bos_id": config.bos_id,
        "eos_id": config.eos_id,
        "tie_embeddings": config.tie_embeddings,
    }


def _stage(stage: StageConfig) -> dict[str, Any]:
    stacks = {
        name: [{"mixer": kind.mixer, "has_mlp": kind.has_mlp} for kind in parse_layout(layout)]
        for name, layout in stage.layouts.items()
    }
    attention = {key: getattr(stage.attention, key) for key in sorted(_PLAIN_ATTENTION)}
    return {"d_model": stage.d_model, **attention, **stacks}


def files_of(name: str) -> dict[str, str]:
    """The files of a folder of this package, by name."""
    folder = resources.files("hnet_lm.web").joinpath(name)
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}

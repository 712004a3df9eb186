"""`import hnet_lm`: everything a user is promised, and torch only when it is wanted."""

import subprocess
import sys

import pytest

import hnet_lm


@pytest.mark.parametrize("name", dir(hnet_lm))
def test_every_name_resolves(name: str):
    value = getattr(hnet_lm, name)
    assert value is not None
    assert value == getattr(hnet_lm, name)


def test_what_is_promised_is_there():
    model = {"HNetLM", "HNetConfig", "Sequences", "load", "save", "load_official"}
    promised = model | {"losses", "official", "generate", "stream", "score", "chunks", "embed", "convert", "train"}
    assert promised <= set(dir(hnet_lm))
    assert hnet_lm.losses.ratio_loss
    assert hnet_lm.official.parameter_names


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hnet_lm' has no attribute 'nonsense'"):
        hnet_lm.nonsense  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]  wrong on purpose


def test_models_and_servers_begin_without_torchs_compiler():
    """It takes as long to import as torch itself, and nobody needs it who does not compile or shard."""
    code = (
        "import sys, hnet_lm.model, hnet_lm.serving.app, hnet_lm.cli.generate, hnet_lm.cli.chunks; "
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_importing_it_imports_no_torch():
    code = "import sys, hnet_lm; print(sorted(m for m in ('torch', 'numpy') if m in sys.modules)); hnet_lm.Sequences"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""What the router experiment compares: parts of a recipe, each a few keys that differ from the plain run.

A recipe is a part, or several joined by `+`: keys of a later part replace those of an earlier one, and loss terms are
collected. Each begins from `PLAIN`: the paper's weight of the ratio loss, the router at its stage's rate, no ramp.
"""

from collections.abc import Mapping
from typing import Any

PLAIN: Mapping[str, Any] = {
    "loss": {"ratio_loss_weight": 0.03, "start_target_ratios": None, "ramp": 0.0, "terms": ()},
    "optimizer": {"routing_lr_multiplier": 1.0},
}
RAMP_SHARE = 330 / 376
"""Of the updates: a run that begins with many short chunks spends as many FLOPs in fewer of them."""
TARGET = 6.0
HELD = 1.3
"""How far below its end the target of ATDC is held at first (5 and 6.5 there)."""


def ratio(weight: float) -> dict[str, Any]:
    return {"loss": {"ratio_loss_weight": weight}}


def rate(multiplier: float) -> dict[str, Any]:
    return {"optimizer": {"routing_lr_multiplier": multiplier}}


def terms(*entries: dict[str, Any], ratio_loss_weight: float = 0.0) -> dict[str, Any]:
    return {"loss": {"ratio_loss_weight": ratio_loss_weight, "terms": entries}}


def model(**extensions: Any) -> dict[str, Any]:
    """Keys of the architecture."""
    return {"model": extensions}


def chunking(**keys: str) -> dict[str, Any]:
    return model(chunking=[keys])


def policy(decide: str) -> dict[str, Any]:
    """Boundaries by policy gradient; `decide` is how they are made outside training."""
    chunkers = [{"name": "policy", "start_ratio": TARGET, "decide": decide}]
    architecture = model(chunkers=chunkers, chunking=[{"smoothing": "none", "confidence": "none"}])
    rate = {"name": "target_rate", "target_ratio": TARGET}
    return architecture | terms({"name": "policy"}, {"name": "early_exit"}, rate)


def outer(layout: str, **keys: Any) -> dict[str, Any]:
    """Another outer network, and the inner one matched so that a byte costs what it does in the plain run."""
    return {"outer": {"layout": layout, **keys}}


PARTS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    # how hard, and how fast
    "ratio-0.1": ratio(0.1),
    "ratio-0.3": ratio(0.3),
    "ratio-1": ratio(1.0),
    "rate-0.1": rate(0.1),
    "rate-0.3": rate(0.3),
    "rate-3": rate(3.0),
    "ramp": {
        "share": RAMP_SHARE,
        "loss": {"ratio_loss_weight": 0.05, "start_target_ratios": (2.0,), "ramp": 0.5},
        "optimizer": {"routing_lr_multiplier": 0.1},
    },
    "atdc": {"loss": {"start_target_ratios": (TARGET / HELD,), "ramp": 0.4, "ramp_after": 0.6}},
    # terms
    "cab": terms({"name": "cab", "weight": 1.0}, ratio_loss_weight=0.3),
    "cab-0.01": terms({"name": "cab", "weight": 0.01}, ratio_loss_weight=0.3),
    "hinge": terms({"name": "hinge", "target_ratio": TARGET, "weight": 1.0}),
    "control": terms({"name": "rate_control", "target_ratio": TARGET, "weight": 1.0}),
    "entropy-0.03": terms({"name": "entropy", "target_ratio": TARGET, "weight": 0.03}),
    "entropy-0.1": terms({"name": "entropy", "target_ratio": TARGET, "weight": 0.1}),
    "entropy-0.3": terms({"name": "entropy", "target_ratio": TARGET, "weight": 0.3}),
    "entropy-1": terms({"name": "entropy", "target_ratio": TARGET, "weight": 1.0}),
    # routers and what is around them
    "cosine": model(chunkers=[{"name": "cosine"}]),
    "linear": model(chunkers=[{"name": "linear"}]),
    "bytes": chunking(smoothing="bytes"),
    "weight": chunking(confidence="weight"),
    "no-confidence": chunking(confidence="none"),
    "no-smoothing": chunking(smoothing="none"),
    "no-residual": chunking(residual="none"),
    "identity": chunking(residual="identity"),
    "policy": policy("sample"),
    "policy-threshold": policy("threshold"),
    # other targets, for a curve through three of them
    "n3": {"target": 3.0},
    "n4": {"target": 4.0},
    "n8": {"target": 8.0},
    # rates of the whole model
    "lr-0.5": {"lr": 0.5},
    "lr-2": {"lr": 2.0},
    # baselines of equal FLOPs per byte
    "mambabyte": {"family": "mambabyte"},
    "pool": {"family": "hnet-pool"},
    "space": {"family": "hnet-space"},
    # where the FLOPs go
    "outer-m1": outer("m1"),
    "outer-m1-wide": outer("m1", d_model=192),
    "outer-m2-narrow": outer("m2", d_model=96),
    "outer-m3-narrow": outer("m3", d_model=96),
    "outer-m4-narrow": outer("m4", d_model=64),
    "outer-T": outer("T1"),
    "state-32": outer("m2", d_state=32),
    "state-128-narrow": outer("m2", d_model=96, d_state=128),
}

SETS: Mapping[str, tuple[str, ...]] = {
    "first": ("paper", "ratio-0.3", "ramp", "cab", "entropy-0.1", "entropy-0.3", "entropy-1"),
    "losses": ("paper", "ratio-0.1", "ratio-0.3", "ratio-1", "ramp", "atdc", "hinge", "control", "cab"),
    "rates": ("paper+rate-0.1", "paper+rate-0.3", "paper", "paper+rate-3"),
    "routers": ("paper", "cosine", "linear", "bytes", "bytes+cab-0.01", "policy"),
    "ablations": ("paper", "no-smoothing", "weight", "no-confidence", "no-residual", "identity", "linear"),
    "together": ("entropy-0.1", "entropy-0.1+bytes", "entropy-0.1+cosine", "entropy-0.03", "control+bytes"),
    "baselines": ("entropy-0.1", "mambabyte", "pool", "space"),
    "targets": tuple(f"{recipe}{target}" for recipe in ("paper", "entropy-0.1") for target in ("", "+n4", "+n8")),
    "split": tuple(
        f"entropy-0.1+{part}"
        for part in (
            *("outer-m1", "outer-m1-wide", "outer-m2-narrow", "outer-m3-narrow", "outer-m4-narrow", "outer-T"),
            *("state-32", "state-128-narrow", "n4", "n8"),
        )
    ),
}
"""Recipes by the question that they answer together."""


def merged(recipe: str) -> dict[str, Any]:
    """All keys of a recipe. Raises KeyError for a part that is not there."""
    found: dict[str, Any] = {key: dict(table) for key, table in PLAIN.items()}
    for name in recipe.split("+"):
        for key, value in PARTS[name].items():
            if not isinstance(value, Mapping):
                found[key] = value
                continue
            table = found.setdefault(key, {})
            collected = (*table.get("terms", ()), *value.get("terms", ()))
            table |= value
            if collected:
                table["terms"] = collected
    return found


def aimed(found: dict[str, Any], target: float) -> dict[str, Any]:
    """The same keys, in which everything that has a target gets this one, or the recipe's own."""
    target = found.pop("target", target)
    loss = found["loss"]
    at = [{**term, **({"target_ratio": target} if "target_ratio" in term else {})} for term in loss["terms"]]
    loss |= {"target_ratios": (target,), "terms": tuple(at)}
    for chunker in found.get("model", {}).get("chunkers", ()):
        if "start_ratio" in chunker:
            found["model"]["chunkers"] = [{**chunker, "start_ratio": target}]
    if loss["ramp"] and "ramp_after" in loss:  # held as far below the target as elsewhere
        loss["start_target_ratios"] = (target / HELD,)
    return found

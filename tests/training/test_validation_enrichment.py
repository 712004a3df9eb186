"""A validation records how enriched the cuts are, and leaves it out of a model that makes none."""

from pathlib import Path

import pytest
import torch
from training_runs import run_config

from hnet_lm.evaluation import ByteScorer, Passage
from hnet_lm.evaluation.enrichment import EnrichmentCollector
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.run import build
from hnet_lm.training.validation import Validator

ALONE = Ranks(0, 1, torch.device("cpu"))
TEXT = b"some words, and then a few more of them"


def test_the_record_has_b_and_its_null(tmp_path: Path) -> None:
    (tmp_path / "held_out.txt").write_bytes(TEXT)
    held_out = {"sources": [{"path": str(tmp_path / "held_out.txt")}], "sample_bytes": 0}
    config = run_config(tmp_path, validation=held_out)
    model = build(config, ALONE).model
    validator = Validator(model, config, ALONE, torch.float32)
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    collector = EnrichmentCollector()
    collector.add(next(ByteScorer(model, unit_starts=True, byte_logprobs=True).score([Passage(TEXT)])))
    (expected,) = collector.enrichments()
    assert expected.num_cuts > 3
    record = validator.measure().record()
    assert record["validation/stage0/boundary_enrichment"] == pytest.approx(expected.value, rel=1e-4)
    assert record["validation/stage0/boundary_enrichment_by_chance"] == pytest.approx(expected.null_mean, rel=1e-4)
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.eye_(parameter)
    with torch.no_grad():
        model.embedding.weight.copy_(model.embedding.weight[:1].expand_as(model.embedding.weight))
    assert not [key for key in validator.measure().record() if "enrichment" in key]

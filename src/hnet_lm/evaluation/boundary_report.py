"""What the cuts of a model mean, by domain and stage: lengths, enrichment, agreement with references, common chunks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from hnet_lm.evaluation.boundaries import StageBoundaries
from hnet_lm.evaluation.enrichment import Enrichment, EnrichmentCollector
from hnet_lm.evaluation.scorer import PassageScore
from hnet_lm.genome import BedInterval
from hnet_lm.inspect.codon_phase import CodonPhases, codon_phases
from hnet_lm.inspect.statistics import Agreement, agreement_of_starts

NUM_COMMON = 20


@dataclass
class StageReport:
    """One stage in the documents of a domain."""

    boundaries: StageBoundaries = field(default_factory=StageBoundaries)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    strings: Counter[bytes] = field(default_factory=Counter)
    phases: dict[str, CodonPhases] = field(default_factory=dict)
    """By strand, for DNA with genes."""

    def common(self, number: int = NUM_COMMON) -> list[tuple[bytes, int]]:
        """The most frequent chunks, with their counts."""
        return self.strings.most_common(number)


@dataclass
class DomainReport:
    """The stages of a domain, outermost first."""

    stages: list[StageReport]
    collector: EnrichmentCollector = field(default_factory=EnrichmentCollector)

    @property
    def enrichments(self) -> list[Enrichment]:
        return self.collector.enrichments()


@dataclass
class BoundaryReport:
    """Documents are added one by one, with a score that has unit starts and the log-probabilities of bytes."""

    tolerance: int = 0
    domains: dict[str, DomainReport] = field(default_factory=dict)

    def add(
        self,
        domain: str,
        data: bytes,
        score: PassageScore,
        references: Mapping[str, np.ndarray],
        genes: Sequence[BedInterval] = (),
    ) -> None:
        """`references` are the offsets that each reference marks in this document, `genes` its intervals."""
        starts: Sequence[np.ndarray] = score.unit_starts or ()
        report = self.domains.setdefault(domain, DomainReport([StageReport() for _ in starts]))
        report.collector.add(score)
        for stage, of_stage in zip(report.stages, starts, strict=True):
            stage.boundaries.add(data, of_stage)
            stage.strings.update(data[a:b] for a, b in pairwise([*of_stage.tolist(), len(data)]))
            for name, offsets in references.items():
                found = agreement_of_starts(of_stage, len(data), name, offsets, self.tolerance)
                known = stage.agreements.get(name)
                stage.agreements[name] = found if known is None else known + found
            for phases in codon_phases(of_stage, genes, len(data)) if genes else ():
                before = stage.phases.get(phases.strand)
                stage.phases[phases.strand] = phases if before is None else before + phases

    def to_json(self) -> dict[str, Any]:
        return {
            domain: [
                stage.boundaries.to_json()
                | ({"codon_phases": [phases.to_json() for phases in stage.phases.values()]} if stage.phases else {})
                | {
                    "enrichment": enrichment.to_json(),
                    "agreement": [found.to_json() for found in stage.agreements.values()],
                    "common_chunks": [[text.decode("utf-8", "backslashreplace"), n] for text, n in stage.common()],
                }
                for stage, enrichment in zip(report.stages, report.enrichments, strict=True)
            ]
            for domain, report in self.domains.items()
        }

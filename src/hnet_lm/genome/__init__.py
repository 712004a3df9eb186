"""Genomes as files have them: sequences by name and position, intervals of them, and tracks for genome browsers.

Positions inside the package are counted from 0 and leave the end out, as in BED. Names of regions that people write
(`chr20:59,000,001-59,100,000`) and the positions of VCF are counted from 1 and include the end.
"""

from hnet_lm.genome.bed import BedInterval, read_bed
from hnet_lm.genome.codes import reverse_complement
from hnet_lm.genome.reference import Reference, Region, read_records, stretch
from hnet_lm.genome.regions import other_name, parse_region, region_name
from hnet_lm.genome.tracks import bed_lines, bedgraph_lines

__all__ = [
    "BedInterval",
    "Reference",
    "Region",
    "bed_lines",
    "bedgraph_lines",
    "other_name",
    "parse_region",
    "read_bed",
    "read_records",
    "region_name",
    "reverse_complement",
    "stretch",
]

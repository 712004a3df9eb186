"""How fast the data is read, on one core: bytes of text a second from files to packed batches, by format.

    python benchmarks/data.py [--megabytes 200] [--output FILE.json]

Writes corpora of English, cut into documents of about 4 kB, into a temporary directory, and reads each for one epoch
through the loader's own stream (read, cut, shuffle, pack) in this process. `uint16` is a stream's batch, `int64` the
tensor batch that training gets. Prints JSON.
"""

import argparse
import gzip
import json
import lzma
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zstandard

from hnet_lm.data import DataConfig, DataLoader, SourceConfig, documents
from hnet_lm.data.stream import Stream

SEPARATOR = "<|endoftext|>"
DOCUMENT_BYTES = 4000


def texts(num_bytes: int) -> Iterator[str]:
    """Documents of the English sample, over and over."""
    sample = [item.data.decode() for item in documents(DataConfig((SourceConfig("sample:english"),)))]
    given = 0
    while True:
        for book in sample:
            for begin in range(0, len(book), DOCUMENT_BYTES):
                yield book[begin : begin + DOCUMENT_BYTES]
                given += DOCUMENT_BYTES
                if given >= num_bytes:
                    return


def write_corpora(folder: Path, num_bytes: int) -> dict[str, SourceConfig]:
    cut = list(texts(num_bytes))
    text = SEPARATOR.join(cut).encode()
    jsonl = "".join(json.dumps({"id": number, "text": one}) + "\n" for number, one in enumerate(cut)).encode()
    dna = b">record\n" + (b"ACGTTGCAAC" * 8 + b"\n") * (num_bytes // 80)
    compress: dict[str, Callable[[bytes], bytes]] = {
        "": lambda data: data,
        ".gz": lambda data: gzip.compress(data, 6),
        ".zst": zstandard.ZstdCompressor(3).compress,
        ".xz": lambda data: lzma.compress(data, preset=1),
    }
    sources = {}
    for suffix, pack in compress.items():
        for name, data in (("corpus.txt", text), ("corpus.jsonl", jsonl)):
            path = folder / (name + suffix)
            path.write_bytes(pack(data))
            sources[path.name] = SourceConfig(str(path), separator=SEPARATOR)
    (folder / "whole.txt").write_bytes(text)
    sources["whole.txt"] = SourceConfig(str(folder / "whole.txt"))
    (folder / "corpus.fa").write_bytes(dna)
    sources["corpus.fa"] = SourceConfig(str(folder / "corpus.fa"))
    pq.write_table(pa.table({"text": cut}), folder / "corpus.parquet")
    sources["corpus.parquet"] = SourceConfig(str(folder / "corpus.parquet"))
    return sources


def measure(source: SourceConfig, num_bytes: int) -> dict[str, float]:
    config = DataConfig((source,), tokens_per_batch=65536, max_length=8192)
    num_batches = max(num_bytes // config.tokens_per_batch - 1, 1)
    rates = {}
    stream = Stream(config, 0, 256)
    with DataLoader(config) as loader:
        for name, give in (("uint16", stream.next), ("int64", loader.__next__)):
            begin = time.process_time()
            read = sum(batch.num_bytes for batch in (give() for _ in range(num_batches)) if batch is not None)
            rates[name] = round(read / (time.process_time() - begin) / 1e6, 1)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="size of each corpus")
    parser.add_argument("--output", type=Path, help="also save the JSON here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    num_bytes = arguments.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        sources = write_corpora(Path(folder), num_bytes)
        rates = {name: measure(source, num_bytes) for name, source in sources.items()}
    result = {"unit": "MB/s of text, one core", "megabytes": arguments.megabytes, "rates": rates}
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

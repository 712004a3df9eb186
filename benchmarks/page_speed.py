"""The page in headless Chromium: what a key press costs it, with two models and 32 kB of text.

    python benchmarks/page_speed.py [--bytes 32000] [--keys 7] [--output FILE.json]

Starts `hnet-lm serve` with two random models and types at the end of a text. A key press costs the page all that its
main thread does from the key until the new chunks of both models are drawn: handling the key, reading the two answers,
layout and painting (`TaskDuration` of the DevTools protocol, in processor time, less what the untouched page takes in
the same time, such as the blinking caret). The server and the wait for it do not count. The longest single task, by the
clock, says for how long the page answers nothing. Prints JSON, times in milliseconds.
"""

import argparse
import json
import lzma
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from playwright.sync_api import CDPSession, Page, sync_playwright

import hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.data.samples import sample_path
from hnet_lm.model import HNetLM

CONFIGS = ("tiny_1stage", "tiny_2stage")
OPTIONS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
SETTLING = 1000  # milliseconds
IDLE = 3000
WATCH = """() => {
    window.longest = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((e) => (longest = Math.max(longest, e.duration))))
        .observe({ type: "longtask" });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=32_000)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS.split())
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(url)
        result = measure(page, page.context.new_cdp_session(page), english(options.bytes), options.keys)
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result) + "\n")


def english(num_bytes: int) -> str:
    """The beginning of the bundled book, ASCII alone."""
    with lzma.open(sample_path("english", "validation"), "rt", encoding="utf-8") as lines:
        text = json.loads(next(lines))["text"]
    return "".join(character for character in text if character.isascii())[:num_bytes]


def measure(page: Page, devtools: CDPSession, text: str, num_keys: int) -> dict[str, object]:
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(WATCH)
    field = page.locator("#text")
    answered: list[str] = []
    page.on("requestfinished", lambda request: answered.append(request.url))
    idle = dict.fromkeys(durations(devtools), 0.0)

    def cost(act: Callable[[], object]) -> dict[str, float]:
        page.evaluate("longest = 0")
        answered.clear()
        before, began = durations(devtools), time.monotonic()
        act()
        while sum(url.endswith("/v1/chunks") for url in answered) < len(CONFIGS):
            page.wait_for_timeout(50)
        page.wait_for_timeout(SETTLING)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        after, seconds = durations(devtools), time.monotonic() - began
        spent = {name: round(1000 * (after[name] - before[name] - seconds * idle[name]), 1) for name in after}
        return {**spent, "longest_task": round(page.evaluate("longest"), 1)}

    fill = cost(lambda: field.fill(text))
    field.evaluate("field => field.setSelectionRange(field.value.length, field.value.length)")
    cost(lambda: field.press("x"))  # the first is compiled
    before = durations(devtools)
    page.wait_for_timeout(IDLE)
    idle.update({name: (value - before[name]) / (IDLE / 1000) for name, value in durations(devtools).items()})
    keys = [cost(lambda: field.press("y")) for _ in range(num_keys)]
    return {
        "bytes": len(text),
        "elements": page.evaluate("document.querySelectorAll('*').length"),
        "fill": fill,
        "key_median": {name: round(statistics.median(key[name] for key in keys), 1) for name in keys[0]},
        "key_worst": {name: max(key[name] for key in keys) for name in keys[0]},
        "idle_per_second": {name: round(1000 * value, 1) for name, value in idle.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }


def durations(devtools: CDPSession) -> dict[str, float]:
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return {name: metrics[name] for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    for seed, name in enumerate(CONFIGS):
        torch.manual_seed(seed)
        model = HNetLM(HNetConfig.load(name)).requires_grad_(False)
        for parameter_name, parameter in model.named_parameters():
            if "routing" in parameter_name:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
        hnet_lm.save(model, folder / name)
    command = [sys.executable, "-m", "hnet_lm", "serve", *(str(folder / name) for name in CONFIGS), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split(" at ")[1].split()[0]
        finally:
            server.terminate()


if __name__ == "__main__":
    main()

"""The page without a server: milliseconds per byte of the forward pass in JavaScript, in headless Chromium.

    python benchmarks/web_speed.py [--config demo] [--bytes 300] [--output FILE.json]

Exports a random model of the config, with its router set so that chunks have a few bytes, and steps through English.
`step` is the whole model, as in generating; `encode` the encoders and routing alone, as in cutting. Prints JSON; medians
of five rounds, and the fastest, by the clock.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.web.bundling import bundle
from hnet_lm.web.exporting import files_of, web_files
from page_speed import OPTIONS, english

TIME = """([engine, ids]) => {
    const Model = new Function(`${engine}; return module_lm.Model;`)();
    const buffer = Uint8Array.from(atob(hnetModel.weights), (c) => c.charCodeAt(0)).buffer;
    const model = new Model(hnetModel.manifest, buffer);
    const rounds = (step) => {
        const times = Array.from({ length: 6 }, () => {
            const state = model.newState();
            const began = performance.now();
            let chunks = 0;
            for (const id of ids) chunks += step(id, state).starts[0] ? 1 : 0;
            return [(performance.now() - began) / ids.length, ids.length / chunks];
        }).slice(1).sort(([a], [b]) => a - b); // the first is compiled
        return { median_ms: times[2][0], fastest_ms: times[0][0], bytes_per_chunk: times[0][1] };
    };
    return { step: rounds((id, s) => model.step(id, s)), encode: rounds((id, s) => model.encode(id, s)) };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--bytes", type=int, default=300)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.load(options.config)).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    ids = [model.config.bos_id, *english(options.bytes).encode()]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for path, content in web_files(model, options.config).items():
            (Path(folder) / path).parent.mkdir(exist_ok=True)
            (Path(folder) / path).write_text(content, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS.split())
        page = browser.new_page()
        page.goto(f"file://{folder}/index.html")
        times = page.evaluate(TIME, [bundle(files_of("engine"), "lm.js"), ids])
    size = sum(parameter.numel() for parameter in model.parameters())
    result = {"config": options.config, "parameters": size, **times, "load_average": round(os.getloadavg()[0], 1)}
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

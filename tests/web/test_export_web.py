"""A model as a page without a server: opened as a file, in Debian's headless Chromium, driven by Playwright."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Page, expect

import hnet_lm
from chromium import LOOKS, show_everything, violations
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.generation.rounded_weights import with_weights
from hnet_lm.model import HNetLM
from hnet_lm.web.bundling import bundle
from hnet_lm.web.exporting import files_of, web_files

TEXT = "Every word, 每个字, and é 🐈 too.\n\tx = f(x) " * 3
LAYOUTS: dict[str, list[Any]] = {
    "mamba_and_attention": ["m1T1", ["t1M1"], "t1m1"],
    "two_stages": ["m1", ["T1", ["M1"], "m1"], "m1"],
    "isotropic": ["T1m1"],
}
LOGITS = """([engine, ids]) => {
    const Model = new Function(`${engine}; return module_lm.Model;`)();
    const buffer = Uint8Array.from(atob(hnetModel.weights), (c) => c.charCodeAt(0)).buffer;
    const model = new Model(hnetModel.manifest, buffer);
    const state = model.newState();
    let copy;
    const rows = ids.map((id, i) => {
        if (i === 40) copy = state.copy();
        return model.step(id, state);
    });
    const again = ids.slice(40).map((id) => Array.from(model.step(id, copy).logits));
    return { rows: rows.map(({ logits, probs }) => ({ logits: Array.from(logits), probs })), again };
}"""


def config_of(layout: list[Any], **changes: Any) -> dict[str, Any]:
    num, inner = 1, layout
    while len(inner) == 3:
        num, inner = num + 1, inner[1]
    return {
        "arch_layout": layout,
        "d_model": [32, 64, 96][:num] if num > 1 else [64],
        "d_intermediate": [48] * num,
        "vocab_size": 256,
        "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
        "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [16, -1, -1][:num]},
        **changes,
    }


def random_model(layout: list[Any], seed: int = 0, **changes: Any) -> HNetLM:
    """With every parameter drawn, so that none of them can be forgotten unnoticed."""
    torch.manual_seed(seed)
    model = HNetLM(HNetConfig.from_dict(config_of(layout, **changes))).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name or "residual" in name or "pad_vector" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        elif parameter.dim() == 1:
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Exports a model and opens the page as a file; nothing may go wrong in it, and no network be asked."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(model: HNetLM, width: int = 1000, **options: object) -> Page:
        for path, content in web_files(model, "tiny").items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(content, encoding="utf-8")
        options["viewport"] = {"width": width, "height": 900}
        contexts.append(browser.new_context(**options))  # pyright: ignore[reportArgumentType]  any options
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "blob:", "data:")) or complaints.append(r.url))
        page.goto(f"file://{tmp_path}/index.html")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(
    ("layout", "changes"),
    [(layout, {}) for layout in LAYOUTS.values()]
    + [(LAYOUTS["two_stages"], {"tie_embeddings": True, "vocab_size": 258})],
    ids=[*LAYOUTS, "tied_any_bytes"],
)
def test_logits_are_those_of_the_rounded_model(open_page: OpenPage, layout: list[Any], changes: dict[str, Any]):
    model = random_model(layout, **changes)
    ids = [model.config.bos_id, *TEXT.encode()]
    out = with_weights(model, "int8")(torch.tensor(ids))
    found = open_page(model).evaluate(LOGITS, [bundle(files_of("engine"), "lm.js"), ids])
    logits = torch.tensor([row["logits"] for row in found["rows"]])
    assert logits.shape == out.logits.shape
    assert out.logits.std() > 0.1
    torch.testing.assert_close(logits, out.logits, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(found["again"]), logits[40:], atol=1e-5, rtol=0)  # from a copy of the state
    for stage, routing in enumerate(out.routings):
        probs = torch.tensor([row["probs"][stage] for row in found["rows"] if len(row["probs"]) > stage])
        torch.testing.assert_close(probs, routing.boundary_prob, atol=1e-4, rtol=0)
        assert 2 < int(routing.is_boundary.sum()) < len(routing.is_boundary) or len(probs) < 20


STEPS = """([engine, texts]) => {
    const [Model, Session] = new Function(`${engine}; return [module_lm.Model, module_session.Session];`)();
    const buffer = Uint8Array.from(atob(hnetModel.weights), (c) => c.charCodeAt(0)).buffer;
    const model = new Model(hnetModel.manifest, buffer);
    let steps = 0;
    const session = new Session(model, (id, state) => (steps++, model.step(id, state)));
    return texts.map((text) => {
        const before = steps;
        const bytes = new TextEncoder().encode(text);
        for (let at = session.begin(bytes); at < bytes.length; at++) session.read(bytes[at]);
        session.keep(true);
        const fresh = new Session(model, (id, state) => model.step(id, state));
        bytes.forEach((byte) => fresh.read(byte));
        return [steps - before, Math.max(...session.logits.map((logit, i) => Math.abs(logit - fresh.logits[i])))];
    });
}"""


def test_a_text_is_read_on_from_where_it_was_read_before(open_page: OpenPage):
    """A key press at the end costs a step, deleting it none; one in the middle is read from the copy before it."""
    page = open_page(random_model(LAYOUTS["mamba_and_attention"]))
    long = "abcd" * 100
    texts = [long, long + "x", long, long + "y", long[:300] + "z", long[:300]]
    both = 'import { Model } from "./lm.js";\nimport { Session } from "./session.js";\n'
    engine = bundle(files_of("engine") | {"both.js": both}, "both.js")
    found = page.evaluate(STEPS, [engine, texts])
    assert [steps for steps, _ in found] == [400, 1, 0, 1, 301 - 256, 300 - 256]
    assert max(difference for _, difference in found) < 1e-5


CHUNKS = """() => {
    window.answers = [];
    const listen = Worker.prototype.__lookupSetter__("onmessage");
    Object.defineProperty(Worker.prototype, "onmessage", { set(handler) {
        listen.call(this, (event) => { answers.push(event.data); handler(event); });
    } });
}"""


def test_chunks_are_pythons_whatever_was_typed_before(open_page: OpenPage):
    model = random_model(LAYOUTS["two_stages"])
    page = open_page(model)
    page.add_init_script(f"({CHUNKS})()")
    page.reload()
    field = page.get_by_role("textbox", name="Text")
    rounded = with_weights(model, "int8")
    for text in (TEXT, TEXT + "more", TEXT[:50] + "else", "x", ""):
        field.fill(text)
        expect(page.locator("#size")).to_contain_text(re.compile(rf"^{len(text.encode())} byte"))
        num_bytes = len(text.encode())
        page.wait_for_function(
            "(n) => answers.some(({ answer, isLast }) => isLast && answer.num_bytes === n)", arg=num_bytes
        )
        answer = page.evaluate("answers.filter(({ isLast }) => isLast).at(-1).answer")
        expected = hnet_lm.chunks(rounded, text).to_json()
        assert answer["num_bytes"] == expected["num_bytes"]
        for found, wanted in zip(answer["stages"], expected["stages"], strict=True):
            assert found["offsets"] == wanted["offsets"]
            assert found["starts"] == wanted["starts"]
            assert found["boundary_prob"] == pytest.approx(wanted["boundary_prob"], abs=1e-4)


def test_it_goes_on_writing_as_python_does(open_page: OpenPage):
    """Greedy: the same bytes; a sampled text has as many as were asked for, and is valid."""
    model = random_model(LAYOUTS["mamba_and_attention"])
    page = open_page(model)
    page.get_by_role("textbox", name="Text").fill("Once upon")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("New bytes").fill("40")
    page.get_by_role("button", name="Continue the text").click()
    expect(page.locator(".progress")).to_contain_text("new byte")
    page.get_by_role("button", name="Take this text").click()
    written = page.get_by_role("textbox", name="Text").input_value()
    rounded = with_weights(model, "int8")
    (expected,) = hnet_lm.generate(rounded, ["Once upon"], max_new_bytes=40, temperature=0.0, valid_utf8=True)
    assert written == re.sub("\r\n?", "\n", "Once upon" + expected)
    page.get_by_role("textbox", name="Text").fill("Then")
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_role("button", name="Continue the text").click()
    expect(page.locator(".progress")).to_contain_text(re.compile("40 new bytes in|came to its end"))
    assert "\\x" not in page.locator(".view").inner_text()
    assert page.locator(".view .new").count() > 0


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_no_violation(open_page: OpenPage, scheme: str, width: int):
    page = open_page(random_model(LAYOUTS["two_stages"]), width, color_scheme=scheme)
    show_everything(page)
    assert violations(page) == {}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"reads_tokens": True}, "reads tokens"),
        ({"norm_eps": [1e-6, 1e-6]}, "norm_eps"),
        ({"chunking": [{"smoothing": "none"}]}, "chunking"),
        ({"chunkers": [{"name": "space"}]}, "'space'"),
        (
            {"attn_cfg": {**config_of(["m1", ["T1"], "m1"])["attn_cfg"], "num_kv_heads": [1, 1]}},
            "attn_cfg.num_kv_heads",
        ),
    ],
)
def test_what_the_page_cannot_run_is_refused_in_a_line(changes: dict[str, Any], complaint: str):
    model = HNetLM(HNetConfig.from_dict(config_of(["m1", ["T1"], "m1"], **changes)))
    with pytest.raises(UserError, match=re.escape(complaint)) as refusal:
        web_files(model, "mine")
    assert "\n" not in str(refusal.value)


def test_the_command_writes_the_folder_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = random_model(LAYOUTS["two_stages"])
    hnet_lm.save(model, tmp_path / "model")
    assert main(["export", "web", str(tmp_path / "model"), str(tmp_path / "page")]) == 0
    assert "open index.html" in capsys.readouterr().out
    written = {path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*.*")}
    scripts = ("model", "engine", "page")
    assert written == {"index.html", "static/style.css", "static/icon.svg", *(f"static/{name}.js" for name in scripts)}
    manifest = re.search(r"manifest: (.*), weights: ", (tmp_path / "page/static/model.js").read_text())
    assert manifest is not None
    assert json.loads(manifest[1])["model"]["id"] == "model"
    assert main(["export", "web", str(tmp_path / "no-model"), str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()

"""The small model in the reader's browser: the same clips as PyTorch's, nothing loaded before it is asked for."""

import base64
import gzip
import hashlib
import io
import json
import re
import struct
import sys
import time

import book_extension
import pytest
import vendor
from built_book import AXE, PHONE, ROOT, SITE, open_page
from PIL import Image

import vdmlib
from vdmlib.media import read_pictures
from vdmlib.small import data
from vdmlib.small.weights import WEIGHTS

PAGE = "book/in_your_browser.html"
TOLERANCE = 1e-3  # of values from -1 to 1, where one of 256 levels is 8e-3

# Without a browser.


def fields(message: bytes) -> dict[int, list]:
    """The fields of a message as ONNX files have them (protocol buffers), by number."""
    found: dict[int, list] = {}
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or number()
            value = message[place : place + length]
            place += length
        found.setdefault(key >> 3, []).append(value)
    return found


def references(graph: str) -> dict[str, dict[str, str]]:
    """Weight → file, offset and length, as a graph has them."""
    content = (ROOT / f"book/_static/demo/graphs/{graph}.onnx").read_bytes()
    found = {}
    for tensor in map(fields, fields(fields(content)[7][0])[5]):
        entries = [fields(entry) for entry in tensor[13]]
        found[tensor[8][0].decode()] = {entry[1][0].decode(): entry[2][0].decode() for entry in entries}
    return found


def stored(file: str) -> dict[str, tuple[int, int]]:
    """Weight → offset and length in a shipped file."""
    content = (WEIGHTS / file).read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + header])
    return {
        name: (8 + header + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in entries.items()
        if name != "__metadata__" and entry["dtype"] == "F16"
    }


@pytest.mark.parametrize("graph", ["t2v", "i2v", "encoder", "decoder"])
def test_every_weight_of_a_graph_lies_where_the_graph_says(graph):
    pipeline = vdmlib.small.load_pretrained(graph if graph in ("t2v", "i2v") else "t2v")
    network = pipeline.video_model if graph in ("t2v", "i2v") else pipeline.autoencoder
    names = {name for name, value in network.state_dict().items() if value.is_floating_point()}
    if graph == "decoder":
        names = {name for name in names if name.startswith("decoder.")}
    if graph == "encoder":
        names = {name for name in names if not name.startswith("decoder.")}
    found = {name.removesuffix(".half"): reference for name, reference in references(graph).items()}
    assert set(found) == names
    trained = stored(f"{graph}.safetensors") if graph == "i2v" else {}
    for name, reference in found.items():
        file = reference["location"]
        assert file != "t2v.safetensors" or name not in trained
        assert stored(file)[name] == (int(reference["offset"]), int(reference["length"]))


def test_graphs_are_as_exported(monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    import export_browser

    monkeypatch.setattr(sys, "argv", ["export_browser.py", "--check"])
    export_browser.main()


def test_the_runtime_is_as_published_with_its_licence():
    (runtime,) = (package for package in vendor.PACKAGES if package.name == "onnxruntime-web")
    assert set(runtime.sha256) == {*runtime.patterns, "LICENSE", "ThirdPartyNotices.txt"}
    for name, expected in runtime.sha256.items():
        assert hashlib.sha256((ROOT / runtime.target / name).read_bytes()).hexdigest() == expected


# In the built book.


@pytest.mark.browser
def test_what_is_packed_is_what_is_shipped():
    folder = SITE / "_static/demo/packed"
    sizes = re.search(r"const SIZES = \{.*?\};", (ROOT / "book/_static/demo/demo.js").read_text(), re.DOTALL)[0]
    said = {name: float(size) for name, size in re.findall(r'"([\w.-]+)": ([\d.]+)', sizes)}
    files = book_extension.packed_files()
    assert {path.name for path in folder.iterdir()} == {f"{name}.js" for name in files} == {f"{n}.js" for n in said}
    for name, content in files.items():
        text = (folder / f"{name}.js").read_text()
        packed = re.fullmatch(r'packed\["([\w.-]+)"\]="(\S+)";\n', text)
        assert packed[1] == name and gzip.decompress(base64.b64decode(packed[2])) == content
        assert len(text) / 1e6 == pytest.approx(said[name], abs=0.05)


@pytest.fixture(params=["http", "file"])
def demo(request, browser, server):
    """The page over both ways of opening it, with everything it asked for."""
    home = server if request.param == "http" else SITE.as_uri() + "/"
    allowed = (server, "data:", f"blob:{server}") if request.param == "http" else ("file:", "data:", "blob:")
    visit = open_page(browser, home + PAGE, allowed)
    visit.asked = []
    visit.tab.on("request", lambda r: visit.asked.append(r.url))
    yield visit
    visit.tab.context.close()


def panel(visit, kind: str):
    return visit.tab.locator(f".demo[data-kind={kind}]")


def make(visit, kind: str, ends: str = "The clip is made") -> None:
    panel(visit, kind).locator("[name=make]").click()
    visit.tab.wait_for_function(
        "([panel, ends]) => document.querySelector(`${panel} [role=status]`).textContent.startsWith(ends)",
        arg=[f".demo[data-kind={kind}]", ends],
    )


def clip(visit, kind: str) -> list[float]:
    return visit.ask(f"() => Array.from(document.querySelector('.demo[data-kind={kind}]').clip)")


def pytorch(visit, kind: str, caption: str, **settings) -> float:
    """The largest difference between the page's clip and PyTorch's; prints the time that PyTorch takes."""
    model = vdmlib.small.load_pretrained(kind)
    start = time.perf_counter()
    expected = model.generate([caption], **settings)
    status = panel(visit, kind).locator("[role=status]").inner_text()
    print(f"{kind}: {status} PyTorch: {time.perf_counter() - start:.1f} s")
    return (expected.new_tensor(clip(visit, kind)).reshape(expected.shape) - expected).abs().max().item()


@pytest.mark.browser
@pytest.mark.xdist_group("browser_model")
def test_both_panels_make_pytorchs_clips_from_the_seed_alone(demo):
    tab, t2v, i2v = demo.tab, panel(demo, "t2v"), panel(demo, "i2v")
    before = "() => performance.getEntriesByType('resource').filter((e) => e.name.includes('/packed/')).length"
    assert demo.ask(before) == 0 and demo.asked == []
    t2v.locator("[name=caption]").fill("a blue 3 moving up slowly")
    assert t2v.locator("[name=direction]").input_value() == "up"
    for name, value in (("fps", "16"), ("guidance", "2.5"), ("seed", "4000000000")):
        t2v.locator(f"[name={name}]").fill(value)
    t2v.locator("[name=steps]").select_option("10")
    make(demo, "t2v")
    settings = dict(fps=16, guidance_scale=2.5, seed=4_000_000_000, steps=10)
    assert pytorch(demo, "t2v", "a blue 3 moving up slowly", **settings) < TOLERANCE
    command = t2v.locator(".demo-command code").inner_text()
    assert "--seed 4000000000 --fps 16 --steps 10 --guidance-scale 2.5" in command
    needed = ["runtime.js", "model.js", "ort-wasm-simd-threaded.wasm", "t2v.onnx", "decoder.onnx"]
    needed += ["t2v.safetensors", "autoencoder.safetensors"]
    assert {url.rsplit("/", 1)[1] for url in demo.asked if not url.startswith("blob:")} == {f"{n}.js" for n in needed}

    # A drawn digit: two strokes, as a pointer makes them.
    i2v.scroll_into_view_if_needed()
    pad = i2v.locator(".demo-draw canvas")
    box = pad.bounding_box()
    for stroke in ([(0.3, 0.2), (0.25, 0.6), (0.75, 0.6)], [(0.6, 0.15), (0.6, 0.9)]):
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        tab.mouse.move(*points[0])
        tab.mouse.down()
        for point in points[1:]:
            tab.mouse.move(*point, steps=4)
        tab.mouse.up()
    i2v.locator("[name=digit]").select_option("4")
    i2v.locator("[name=steps]").select_option("10")
    make(demo, "i2v")
    png = i2v.locator(".demo-command a").get_attribute("href").split(",")[1]
    drawn = read_pictures(Image.open(io.BytesIO(base64.b64decode(png))))[0]
    assert drawn.shape == (3, 64, 64) and drawn.max() > 0.9
    assert pytorch(demo, "i2v", "a red 4 moving left quickly", seed=0, steps=10, first_frame=drawn) < TOLERANCE
    assert "Its middle moves" in i2v.locator(".demo-reading").inner_text()
    assert demo.requests == [] and demo.complaints == []


@pytest.fixture(scope="module")
def phone(browser, server):
    """The page on a phone, in the dark, where motion is not wanted: looked at, but not run."""
    visit = open_page(browser, server + PAGE, (server, "data:", f"blob:{server}"), PHONE, "dark")
    visit.tab.emulate_media(reduced_motion="reduce")
    visit.tab.reload(wait_until="load")
    yield visit
    visit.tab.context.close()


@pytest.mark.browser
@pytest.mark.xdist_group("browser_model")
class TestOnAPhone:
    """In order: the last three start the model."""

    def test_the_world_is_the_librarys(self, phone):
        assert phone.ask("() => VOCABULARY") == list(data.VOCABULARY)
        assert phone.ask("() => FRAME_RATES") == list(data.FRAME_RATES)
        assert phone.ask("() => [COLOURS, SPEEDS, BACKGROUND]") == [
            {name: list(rgb) for name, rgb in data.COLOURS.items()}, data.SPEEDS, list(data.BACKGROUND)
        ]  # fmt: skip
        prompts = data.all_prompts()
        asked = [[p.digit, p.colour, p.direction] for p in prompts]
        held_out = phone.ask(f"() => {json.dumps(asked)}.map(([digit, colour, d]) => heldOut(digit, colour, d))")
        assert held_out == [p.held_out for p in prompts]
        caption = "a pink 4 moving down"
        assert phone.ask(f"() => tokenize(parse('{caption}'))") == data.tokenize([caption])[0].tolist()

    @pytest.mark.parametrize(
        ("caption", "says"),
        [
            ("a red 7 moving left quickly", ""),
            ("a red 0 moving left quickly", "kept from training"),
            ("a purple 7 jumping left quickly", "“purple”, “jumping” is no word that the model knows: it knows a"),
            ("a red 7 moving left quickly a", "at most 6"),
            ("moving", "new to it"),
        ],
    )
    def test_a_sentence_is_commented(self, phone, caption, says):
        box = panel(phone, "t2v")
        box.locator("[name=caption]").fill(caption)
        said = box.locator(".demo-remark").inner_text()
        assert says in said and bool(says) == bool(said)

    def test_what_cannot_be_made_is_said(self, phone):
        panel(phone, "t2v").locator("[name=caption]").fill("a purple 7")
        make(phone, "t2v", "“purple” is no word")
        make(phone, "i2v", "Draw a digit first")
        panel(phone, "t2v").locator("[name=caption]").fill("a red 7 moving left quickly")

    def test_a_browser_that_cannot_run_it_is_told(self, phone):
        phone.ask("() => { window.right = WebAssembly.validate; WebAssembly.validate = () => false; }")
        make(phone, "t2v", "No clip: This browser has no WebAssembly SIMD")
        phone.ask("() => { WebAssembly.validate = window.right; }")

    def test_what_does_not_arrive_is_told_and_can_be_tried_again(self, phone):
        phone.tab.route("**/packed/t2v.safetensors.js", lambda route: route.abort())
        make(phone, "t2v", "No clip: t2v.safetensors did not arrive")
        phone.tab.unroute("**/packed/t2v.safetensors.js")
        assert all("t2v.safetensors" in complaint or "ERR_FAILED" in complaint for complaint in phone.complaints)
        phone.complaints.clear()

    def test_loading_can_be_stopped(self, phone):
        make(phone, "t2v", "The model is there and is being started")
        panel(phone, "t2v").locator("[name=stop]").click()
        phone.tab.wait_for_function("() => !document.querySelector('.demo [name=make]').disabled")
        assert panel(phone, "t2v").locator("[role=status]").inner_text() == "Stopped."

    def test_with_the_keyboard_alone_stopped_half_way(self, phone):
        box, keys = panel(phone, "i2v"), phone.tab.keyboard
        box.locator("[name=example]").focus()
        keys.press("Enter")
        box.locator("[name=steps]").select_option("100")
        box.locator("[name=make]").focus()
        keys.press("Enter")
        phone.tab.wait_for_function("() => document.querySelector('.demo[data-kind=i2v] progress').value > 0.01 && "
                                    "!document.querySelector('.demo[data-kind=i2v] .demo-result').hidden")  # fmt: skip
        make(phone, "t2v", "The other clip is still being made")
        box.locator("[name=stop]").focus()
        keys.press("Enter")
        phone.tab.wait_for_function(
            "() => /^Stopped/.test(document.querySelector('.demo[data-kind=i2v] [role=status]').textContent)"
        )
        assert box.locator("[name=pause]").inner_text() == "Play"  # reduced motion
        assert phone.complaints == []

    def test_the_result_fits_and_is_accessible(self, phone):
        assert panel(phone, "i2v").locator(".demo-result").is_visible()
        assert phone.ask("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        phone.tab.add_script_tag(path=AXE)
        found = phone.ask("async () => (await axe.run()).violations")
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []

"""The cells of chapter 11 that need a GPU and a download: run as there, with tiny checkpoints on the CPU."""

import io
import json
import re
import statistics
from contextlib import redirect_stdout

import nbformat
import pytest
import torch
from execute_notebooks import ROOT

from vdmlib.released.estimate import MemoryEstimate
from vdmlib.released.memory import GPU_WIDE_ELEMENTS
from vdmlib.released.synthetic import tiny_checkpoint
from vdmlib.small import read_card

PAGE = ROOT / "book/11_gpu_sampling.ipynb"


def cells(first: str, after: str) -> list[str]:
    """The code from the heading ``first`` to the heading ``after``."""
    found, inside = [], False
    for cell in nbformat.read(PAGE, as_version=4).cells:
        if cell.cell_type == "markdown":
            lines = cell.source.splitlines()
            inside = (inside or first in lines) and after not in lines
        elif inside:
            found.append(cell.source)
    return found


def containing(text: str) -> str:
    """The first code cell with this text."""
    cells = nbformat.read(PAGE, as_version=4).cells
    source = next(c.source for c in cells if c.cell_type == "code" and text in c.source)
    return source.replace("%pip", "pass  # %pip")


PACKAGES = containing("media.require(package)")


class Page:
    """What the page's cells have defined and printed. ``asked``: what was downloaded from the Hub."""

    def __init__(self, folder, monkeypatch):
        self.asked, self.names = [], {"display": lambda _: None}
        self.files = {}
        for kind, name in (("t2v", "VideoCrafter/VideoCrafter2"), ("i2v", "VideoCrafter/Image2Video-512")):
            (folder / kind).mkdir()
            self.files[name] = tiny_checkpoint(folder / kind, kind)
        monkeypatch.chdir(folder)
        monkeypatch.setattr("vdmlib.released.downloads.download", self.download)
        gigabyte = dict.fromkeys(("encoding", "denoising", "decoding"), 10**9)
        estimate = MemoryEstimate({}, gigabyte, gigabyte)
        monkeypatch.setattr("vdmlib.estimate_memory", lambda *_, **__: estimate)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 10**9)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (15 * 10**9, 16 * 10**9))

    def download(self, name, _file):
        self.asked.append(name)
        return self.files[name]

    def run(self, sources, **changes) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed), torch.no_grad():
            for source in sources:
                self.names |= changes
                exec(compile(source, PAGE.name, "exec"), self.names)
        return printed.getvalue()


@pytest.fixture
def page(tmp_path, monkeypatch):
    page = Page(tmp_path, monkeypatch)
    page.run([containing("viz.use_style()"), PACKAGES, containing("SAVERS = {")], release=None)
    page.run([containing("def first_that_fits")])
    yield page
    torch.set_grad_enabled(True)


@pytest.fixture(autouse=True)
def no_cards_of_its_own(monkeypatch):
    """The table of savers wants a release's three phases; the tests want none of it."""
    monkeypatch.setattr("vdmlib.viz.table", lambda *_: None)


def test_with_a_gpu_the_released_models_are_loaded_and_the_videos_kept(page, tmp_path):
    chosen, *rest = cells("## The real thing", "## DynamiCrafter, by configuration")
    printed = page.run([chosen], on_gpu=True)
    assert page.names["STEPS"] == 50 and "50 steps" in printed
    printed = page.run(rest, STEPS=4)
    assert page.asked == ["VideoCrafter/VideoCrafter2", "VideoCrafter/Image2Video-512"]
    assert printed.count("memory options: fastest") == 2
    assert "peak 3.00 GB, estimated 2.00" in printed
    videos = {path.name for path in (tmp_path / "videos").iterdir()}
    assert videos == {"boat.mp4", "sunset.mp4", *(f"boat_{fps}.mp4" for fps in (4, 8, 16, 28))}
    clips = page.names["clips"]
    assert not torch.equal(clips[4], clips[28]) and page.names["pipe"].release.kind == "i2v"


def test_each_video_is_saved_before_the_next_is_made(page, tmp_path):
    page.run([containing("CHECKPOINTS ="), containing('pipe = load("t2v")')], on_gpu=True, show=lambda _: None)
    whole, made = page.names["pipe"], []

    def breaks_down(prompt, **settings):
        if len(made) == 2:
            raise torch.cuda.OutOfMemoryError("the third clip")
        made.append(settings["fps"])
        return whole(prompt, **settings | dict(steps=2))

    with pytest.raises(torch.cuda.OutOfMemoryError, match="third"):
        page.run([containing("clips = {}")], pipe=breaks_down)
    assert {path.name for path in (tmp_path / "videos").glob("boat_*")} == {"boat_4.mp4", "boat_8.mp4"}


@pytest.mark.parametrize("colab, drive, warns", [(True, False, True), (True, True, False), (False, False, False)])
def test_who_would_lose_videos_with_the_machine_is_told(page, tmp_path, monkeypatch, colab, drive, warns):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release") if colab else monkeypatch.delenv("COLAB_RELEASE_TAG", False)
    if drive:
        (tmp_path / "drive/MyDrive").mkdir(parents=True)
    choose = containing("CHECKPOINTS =")
    assert ("Drive is not mounted" in page.run([choose], on_gpu=True)) == warns
    assert "Drive is not mounted" not in page.run([choose], on_gpu=False)  # Nobody misses noise.


def test_videos_go_to_a_mounted_drive_and_a_file_of_ones_own_is_taken(page, tmp_path):
    (tmp_path / "drive/MyDrive").mkdir(parents=True)
    chosen, *_ = [s for s in cells("## The real thing", "## DynamiCrafter, by configuration") if "CHECKPOINTS =" in s]
    own = tmp_path / "t2v" / "model.ckpt"
    page.run([chosen.replace('"t2v": None', f'"t2v": {str(own)!r}')], on_gpu=True)
    page.run(["pipe = load('t2v')"])
    keep = page.names["keep"]["t2v"]
    assert str(keep) == "drive/MyDrive/videos" and keep.is_dir()
    assert page.asked == [] and page.names["pipe"].release.kind == "t2v"


def test_without_the_packages_the_page_says_so_and_goes_on(page, monkeypatch):
    def missing(name, *_):
        raise ImportError(f"no {name}")

    monkeypatch.setattr("vdmlib.media.require", missing)
    printed = page.run([PACKAGES, *cells("## The real thing", "## DynamiCrafter, by configuration")])
    assert page.names["ready"] is False and "no open_clip" in printed and "pipe" not in page.names


MESSAGES = {
    "no GPU": "use 'cpu', or 'cuda'",
    "out of memory": "try memory=vdmlib.MemoryOptions(guidance_in_one_batch=False) next",
    "bfloat16 on a T4": "Tesla T4 has none: use float16",
    "a page instead of the file": "not a web page about it",
    "a download cut off": "damaged or truncated: download it again",
    "30 steps": "would become 31: use one of",
    "disk full": "does not fit on the disk: make room",
    "network too slow": "what has already arrived is kept",
    "the other kind of model": "They look like kind 't2v', so pass that",
    "a black or broken video": "The pixels are not finite",
}


def everything_in(folder) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("unchecked")
def test_every_message_of_the_table_is_produced(page, tmp_path):
    for name in (
        "videos/mine.mp4",
        "videos/boat.mp4",
        "synthetic_t2v/model.ckpt",
        "dynami.ckpt",
        "page.ckpt",
        "cut.ckpt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("somebody else's")
    before = everything_in(tmp_path)
    page.run([s for s in cells("## The real thing", "## DynamiCrafter, by configuration") if "clips =" not in s])
    sources = cells("## DynamiCrafter, by configuration", "## Exercises")
    page.run(sources, vc2=page.names["NoiseSchedule"].videocrafter2())
    met = page.names["met"] | page.names["more"]
    assert met.keys() == MESSAGES.keys()
    for when, expected in MESSAGES.items():
        assert expected in met[when], met[when]
    text = "\n".join(c.source for c in nbformat.read(PAGE, as_version=4).cells if c.cell_type == "markdown")
    advice = text[text.index("| when | do |") :].split("\n\n")[0]
    assert all(when in advice for when in MESSAGES)
    # What was in the working folder is there as before, and what was broken for a message is whole again.
    assert everything_in(tmp_path) == before
    assert page.names["pipe"]("x", image=page.names["sunset"], steps=1, progress=False).isfinite().all()


def shown(cell_id: str) -> str:
    """The stored outputs of a cell, as text."""
    outputs = next(c.outputs for c in nbformat.read(PAGE, as_version=4).cells if c.id == cell_id)
    return "\n".join(o.text if o.output_type == "stream" else o.data.get("text/html", "") for o in outputs)


def test_time_on_a_t4_is_six_times_the_bound_that_the_page_computes():
    text = nbformat.read(PAGE, as_version=4).cells[0].source
    minutes = int(re.search(r"on a T4 that cannot take less than (\d+) minutes", text)[1])
    cells_of_t4 = re.findall(r"<td>([^<]*)</td>", shown("gpu-42").split("T4", 1)[1])
    assert minutes == 6 * int(cells_of_t4[3]) // 60


def test_text_on_towers_is_what_was_counted():
    printed = shown("gpu-31")
    found = {name: float(gb) for name, gb in re.findall(r"([a-z]+(?:-| )[a-z ]+) (0\.\d{3})", printed)}
    attention = max(gb for name, gb in found.items() if name.startswith("attention"))
    assert 0 < abs(found["feed-forward"] - attention) < 0.02 * attention  # "nearly equal"
    assert f"spatial transformer, {max(found, key=found.__getitem__)}" in printed
    pixels, one = 2 * 16 * 40 * 64, 2 * 16 * 40 * 64 * 320 * 2
    text = " ".join("".join(c.source for c in nbformat.read(PAGE, as_version=4).cells if c.id == "gpu-text-32").split())
    assert f"four tensors of {one // 10**6} MB" in text and f"to {8 * one // 10**6} MB" in text
    assert f"{GPU_WIDE_ELEMENTS // (8 * 320):,} of the {pixels:,} pixels" in text


def test_a_card_that_was_measured_is_a_star_and_a_cpu_is_none(page, tmp_path, monkeypatch):
    run = json.loads((ROOT / "tests/measured/videocrafter2_cpu.json").read_text())
    card = run | {"device": "Tesla T4", "dtype": "torch.float16", "rows": [{"seconds per step": 0.5}]}
    for name, found in {"cpu": run, "card": card, "short": card | {"video": [4, 64, 64]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    drawn = []
    monkeypatch.setattr("vdmlib.viz.roofline", lambda *given: drawn.append(given))
    source = containing("viz.roofline(").replace('Path(vdmlib.__file__).parents[1] / "tests/measured"', "folder")
    page.run([source], folder=tmp_path, total=(12e12, 60e9), done={}, moved={}, kinds=[])
    assert drawn[0][2] == {"Tesla T4": (200.0, 48e12)}


def test_the_gains_of_the_page_are_those_that_are_stored():
    gains = read_card("sampling_gains")
    assert gains["command"].startswith("python tools/measure/benchmark.py") and "--gains" in gains["command"]
    assert gains["command"] in shown("gpu-43b") and gains["device"] == "CPU, 1 thread"
    ratios = [value for name, value in gains.items() if name.startswith("time with, over without")]
    assert len(ratios) == 3
    for pairs in ratios:
        middle, least, most = statistics.median(pairs), min(pairs), max(pairs)
        assert f"<td>{middle:.2f}</td><td>{least:.2f} to {most:.2f}</td>" in shown("gpu-43b")


def test_what_the_text_says_was_measured_is_in_the_files():
    files = [json.loads(path.read_text()) for path in sorted((ROOT / "tests/measured").glob("*_cpu.json"))]
    rows = {file["model"]: file["rows"][0] for file in files}
    sources = {c.id: " ".join(c.source.split()) for c in nbformat.read(PAGE, as_version=4).cells}
    assert f"float32 took {rows['videocrafter2']['seconds per step']:.0f} s on two cores" in sources["gpu-text-43"]
    off = max(abs(row["estimate / measured"] - 1) for row in rows.values())
    assert f"float32 runs at full size on a CPU the counted peak, in the decoder, was within {off:.2%} of" in sources[
        "gpu-text-30c"
    ].replace(" %", "%")

"""The cells of chapter 11 that need a GPU and a download: run as there, with tiny checkpoints on the CPU."""

import copy
import io
import json
import re
import statistics
from contextlib import redirect_stdout

import nbformat
import pytest
import torch
from execute_notebooks import ROOT
from IPython.core.inputtransformer2 import TransformerManager

from vdmlib import MemoryOptions, NoiseSchedule, Release
from vdmlib.files import CheckpointError
from vdmlib.released.estimate import MemoryEstimate
from vdmlib.released.memory import GPU_WIDE_ELEMENTS
from vdmlib.released.synthetic import tiny_checkpoint
from vdmlib.sampling import ddim_steps
from vdmlib.small import read_card
from vdmlib.small.model import small_schedule

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


def containing(text: str, pip: str = "pass  # %pip") -> str:
    """The first code cell with this text."""
    cells = nbformat.read(PAGE, as_version=4).cells
    source = next(c.source for c in cells if c.cell_type == "code" and text in c.source)
    return source.replace("%pip", pip)


def shown(cell_id: str) -> str:
    """The stored outputs of a cell, as text."""
    outputs = next(c.outputs for c in nbformat.read(PAGE, as_version=4).cells if c.id == cell_id)
    return "\n".join(o.text if o.output_type == "stream" else o.data.get("text/html", "") for o in outputs)


def table(cell_id: str) -> dict[str, list[str]]:
    """The rows of a stored table by their names."""
    rows = re.findall(r"<tr><th>([^<]*)</th>((?:<td>[^<]*</td>)+)</tr>", shown(cell_id))
    return {name: re.findall(r"<td>([^<]*)", cells) for name, cells in rows}


def said(cell_id: str) -> str:
    """A cell of text in one line."""
    return next(" ".join(c.source.split()) for c in nbformat.read(PAGE, as_version=4).cells if c.id == cell_id)


PACKAGES = containing("media.require(package)")


class Page:
    """What the page's cells have defined and printed.

    ``asked``: what was downloaded from the Hub. ``estimated``: whose memory. ``free``: bytes of the card.
    """

    def __init__(self, folder, monkeypatch):
        self.asked, self.estimated, self.names = [], [], {"display": lambda _: None}
        self.free = 15e9
        self.peaks = {name: float(row[-1]) for name, row in table("gpu-33").items()}
        self.files = {}
        for kind, name in (("t2v", "VideoCrafter/VideoCrafter2"), ("i2v", "VideoCrafter/Image2Video-512")):
            (folder / kind).mkdir()
            self.files[name] = tiny_checkpoint(folder / kind, kind)
        monkeypatch.chdir(folder)
        monkeypatch.setattr("vdmlib.released.downloads.download", self.download)
        monkeypatch.setattr("vdmlib.estimate_memory", self.estimate)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 10**9)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (self.free, 16e9))

    def download(self, name, _file):
        self.asked.append(name)
        return self.files[name]

    def estimate(self, release, options):
        """What the page's own table says of these options, for every model."""
        self.estimated.append(release)
        savers = self.names["SAVERS"] | self.names["ALONE"]
        name = next(name for name, how in savers.items() if MemoryOptions(**how) == options)
        phases = ("encoding", "denoising", "decoding")
        return MemoryEstimate({}, dict.fromkeys(phases, round(self.peaks[name] * 1e9)), dict.fromkeys(phases, 0))

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
    page.run([containing("viz.use_style()"), PACKAGES, containing("SAVERS = {")], release=Release.videocrafter2())
    page.estimated.clear()
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
    assert "peak 3.00 GB, estimated 4.69" in printed
    videos = {path.name for path in (tmp_path / "videos").iterdir()}
    assert videos == {"boat.mp4", "sunset.mp4", *(f"boat_{fps}.mp4" for fps in (4, 8, 16, 28))}
    clips = page.names["clips"]
    assert not torch.equal(clips[4], clips[28]) and page.names["pipe"].release.kind == "i2v"
    # The first model's estimates are there already.
    assert page.estimated == [Release.videocrafter1_i2v()] * len(page.names["SAVERS"])


VIDEO = 'pipe = load("t2v")'


@pytest.mark.parametrize(
    "free, option",
    [
        (6.7e9, "decode one frame"),
        (5.6e9, "networks wait on the CPU"),
        (5.3e9, "networks wait, guidance in turn"),
        (3e9, "blocks too, and all others"),
        (2e9, "blocks too, and all others"),
    ],
)
def test_on_a_small_card_an_option_is_chosen_and_the_video_is_the_same(page, free, option):
    page.run([containing("CHECKPOINTS =")], on_gpu=True)
    page.run([containing(VIDEO)], STEPS=2)
    whole, page.free = page.names["video"], free
    printed = page.run([containing(VIDEO), containing("PICTURE = None")], STEPS=2)
    assert printed.count(f"memory options: {option}\n") == 2 and f"estimated {page.peaks[option]:.2f}\n" in printed
    assert page.names["pipe"].memory == MemoryOptions(**page.names["SAVERS"][option])
    page.run([containing(VIDEO)], STEPS=2)
    assert (page.names["video"] - whole).abs().max() < 1e-4


def test_the_cells_of_a_gpu_run_in_the_numbers_of_a_gpu(page, monkeypatch):
    monkeypatch.setattr("vdmlib.released.pipeline.choose_dtype", lambda *_: torch.float16)
    page.run([containing("CHECKPOINTS ="), containing(VIDEO)], on_gpu=True, STEPS=2)
    assert page.names["pipe"].dtype == torch.float16 and page.names["video"].std() > 0.1
    page.run([containing("PICTURE = None")], STEPS=2)
    assert page.names["pipe"].dtype == torch.float16 and page.names["video"].std() > 0.1


def test_on_a_card_too_small_the_page_goes_on_until_a_model_is_loaded_and_says_what_to_do(page, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    card = dict(on_gpu=True, device=torch.device("cuda"))
    assert "Tesla T4 with 15.0 GB free: fastest\n" in page.run([containing("def first_that_fits")], **card)
    page.free = 1.8e9
    printed = page.run([containing("def first_that_fits"), containing("CHECKPOINTS =")], **card)
    assert "Tesla T4: 1.8 GB are free, too few" in printed
    with pytest.raises(ValueError, match="restart the runtime, or take 'synthetic'"):
        page.run([containing(VIDEO)])
    assert page.asked == []
    choice = containing("CHECKPOINTS =").replace('"t2v": None', '"t2v": "synthetic"')
    printed = page.run([choice, containing(VIDEO)], on_gpu=True, STEPS=2)
    assert "peak 3.00 GB\n" in printed and "estimated" not in printed


def test_the_memory_of_another_release_is_estimated_for_that_one_before_it_is_downloaded(page):
    choice = containing("CHECKPOINTS =").replace('"t2v": None', '"t2v": "VideoCrafter/Text2Video-1024"')
    with pytest.raises(CheckpointError, match="Text2Video-1024"):  # Nothing of that name is to be had here.
        page.run([choice, "load('t2v')"], on_gpu=True)
    assert page.estimated[-1] == Release.videocrafter1_t2v_1024() and page.asked == ["VideoCrafter/Text2Video-1024"]


def test_the_frame_rate_that_the_first_video_had_is_not_sampled_twice(page):
    page.run([containing("CHECKPOINTS ="), containing(VIDEO)], on_gpu=True, STEPS=2)
    whole, asked = page.names["pipe"], []

    def counted(prompt, **settings):
        asked.append(settings["fps"])
        return whole(prompt, **settings)

    counted.release = whole.release
    page.run([containing("clips = {}")], pipe=counted, STEPS=2)
    assert asked == [4, 8, 16]
    again = whole(page.names["PROMPT"], fps=28, seed=page.names["SEED"], steps=2, progress=False)
    assert torch.equal(page.names["clips"][28], again)


@pytest.mark.parametrize(
    "colab, there, installed",
    [
        (True, ("torchvision",), ["install --quiet open_clip_torch imageio-ffmpeg"]),
        (True, ("torchvision", "open_clip"), []),
        (True, (), []),
        (False, ("torchvision",), []),
    ],
)
def test_packages_are_installed_on_colab_alone_and_once(page, monkeypatch, colab, there, installed):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release") if colab else monkeypatch.delenv("COLAB_RELEASE_TAG", False)
    asked = []

    class Shell:
        def run_line_magic(self, name, line):
            asked.append((name, line))

    cell = TransformerManager().transform_cell(containing("media.require(package)", pip="%pip"))
    page.run([cell], get_ipython=Shell, find_spec=lambda name: name in there or None)
    assert asked == [("pip", line) for line in installed] and page.names["ready"]


@pytest.fixture
def small(page):
    """The page with its small model, and one noise of a caption."""
    page.run([containing("def sample_small")])
    page.run(["caption, start = 'a red 7 moving left quickly', noise_of(1, 0)"])
    return page.names


def test_with_a_gpu_the_small_model_samples_there_from_the_same_noise(page, small):
    source = containing("nudged =").replace("steps=10", "steps=2")
    printed = page.run([source], on_gpu=True, device=torch.device("cpu"))
    assert re.findall(r"on the GPU: .* lie +(\d+) millionths", printed) == ["0"] * 4 and printed.count("nudged") == 4


def test_the_small_model_goes_where_the_noise_is(small):
    meta = torch.device("meta")  # It refuses to compute with numbers that lie elsewhere, as a GPU does.
    small["unet"] = copy.deepcopy(small["unet"])
    with torch.no_grad():
        assert small["sample_small"]([small["caption"]], small["start"].to(meta), 10, 3.0, steps=2).device == meta


def test_each_video_is_saved_before_the_next_is_made(page, tmp_path):
    page.run([containing("CHECKPOINTS ="), containing('pipe = load("t2v")')], on_gpu=True, show=lambda _: None)
    whole, made = page.names["pipe"], []

    def breaks_down(prompt, **settings):
        if len(made) == 2:
            raise torch.cuda.OutOfMemoryError("the third clip")
        made.append(settings["fps"])
        return whole(prompt, **settings | dict(steps=2))

    breaks_down.release = whole.release
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
    assert "t2v, 64 × 128, memory options: fastest" in page.run(["pipe = load('t2v')"])
    assert page.estimated[-1] == Release.tiny("t2v")  # The file was asked, not its name.
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


def test_time_on_a_t4_is_five_times_the_bound_that_the_page_computes():
    text = said("gpu-text-0")
    minutes = float(re.search(r"makes five videos: on a T4 that cannot take less than ([\d.]+) minutes", text)[1])
    assert minutes == 5 * int(table("gpu-42")["T4"][-1]) * 10 // 60 / 10


def test_text_on_towers_is_what_was_counted():
    printed = shown("gpu-31")
    found = {name: float(gb) for name, gb in re.findall(r"([a-z]+(?:-| )[a-z ]+) (0\.\d{3})", printed)}
    attention = max(gb for name, gb in found.items() if name.startswith("attention"))
    assert 0 < abs(found["feed-forward"] - attention) < 0.02 * attention  # "nearly equal"
    assert f"spatial transformer, {max(found, key=found.__getitem__)}" in printed
    pixels, one = 2 * 16 * 40 * 64, 2 * 16 * 40 * 64 * 320 * 2
    text = said("gpu-text-32")
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
    assert f"float32 took {rows['videocrafter2']['seconds per step']:.0f} s on two cores" in said("gpu-text-43")
    off = max(abs(row["estimate / measured"] - 1) for row in rows.values())
    claim = f"float32 runs at full size on a CPU the counted peak, in the decoder, was within {off:.2%} of"
    assert claim in said("gpu-text-30c").replace(" %", "%")


def test_what_the_text_says_of_a_forgotten_scale_is_in_the_table():
    nothing, both, divide, multiply = table("gpu-13").values()
    text = said("gpu-text-14")
    assert f"a spread of {both[0]} instead of {nothing[0]}" in text
    assert f"falls to {divide[0]}, or grows to {float(multiply[0]):.0f}," in text
    assert {row[column] for row in (nothing, both, divide, multiply) for column in (1, 3)} == {nothing[0]}
    # With both forgotten in steps 0 to 28 nothing is lost; half forgotten it is. The next step is the first that acts.
    assert both[2] == nothing[0] and float(divide[2]) < 0.6 and float(multiply[2]) > 2
    steps = ddim_steps(NoiseSchedule.videocrafter2(), 50)
    acts = [step.timestep for step in steps if step.scale != step.scale_prev]
    assert (len(acts), acts[0], steps[29].timestep) == (21, 401, 401) and "steps 0 to 28" in shown("gpu-13")
    assert "the last 21 steps, from level 401 down" in text and "only from level 401 down" in said("gpu-text-79")
    assert f"that ratio is {steps[-1].scale_prev / steps[-1].scale:.3f}" in text


def test_what_the_text_says_of_guidance_is_in_the_tables():
    rows = table("gpu-18")
    late = rows.pop("1, from 901 down")
    digit, speed, diversity, beyond = (
        {w: float(row[column].rstrip("%")) for w, row in rows.items()} for column in (0, 2, 4, 5)
    )
    text = said("gpu-text-19")
    assert float(late[0]) < 0.5 < digit["1"] < digit["3"] == 1.0  # "pure noise there costs most digits"
    assert f"at {small_schedule().alphas_cumprod[901].sqrt():.2f};" in text
    assert 0.45 < diversity["7.5"] / diversity["1"] < 0.6 and list(beyond.values()) == sorted(
        beyond.values()
    )  # "by half"
    assert digit["20"] < digit["1"] and speed["20"] < min(right for w, right in speed.items() if w != "20")
    assert "two speeds of 16" in said("gpu-text-23") and table("gpu-22")["η = 0"][2] == "0.88"
    assert table("gpu-22")["η = 1"][2] == table("gpu-22")["η = 1"][0] == "1.00"
    apart = {w: int(far) for w, far in re.findall(r"w = +(\d+), nudged: .* lie +(\d+) millionths", shown("gpu-30b"))}
    assert "at 20 makes it tens of times larger" in said("gpu-text-30c")
    assert 35 < apart["20"] / apart["1"] < 70


def test_what_the_text_says_of_memory_is_in_the_table():
    rows, design = table("gpu-33"), said("gpu-text-79")
    phases = {name: [tuple(map(float, cell.split(" + "))) for cell in row[:3]] for name, row in rows.items()}
    fastest, in_turn, one_frame = phases["fastest"], phases["guidance in turn"], phases["decode one frame"]
    weights = phases["networks wait on the CPU"][1][0]
    assert f"at most {fastest[1][1]:.2f} GB beside {weights:.2f} GB of its weights" in said("gpu-text-32")
    assert f"**5 GB**, or {rows['fastest'][-1]}," in said("gpu-text-34")
    assert f"The estimate is {rows['fastest'][-1]} GB at its fastest" in design
    assert f"brings the peak to {rows['decode one frame'][-1]}, now set by denoising" in design
    assert sum(one_frame[1]) > sum(one_frame[2])
    assert f"{fastest[1][1]:.2f} GB of activations instead of {in_turn[1][1]:.2f}" in design
    assert f"needs {float(rows['fastest'][-1]):.1f} GB by the memory model: {fastest[2][0]:.1f} of weights" in design
    assert f"the decoder's {fastest[2][1]:.1f} at the peak. Skips are {float(skips()):.2f}" in design


def skips() -> str:
    return re.search(r"waiting for the decoder: at most (\S+) GB", shown("gpu-31"))[1]


def test_what_the_text_says_of_the_roof_is_in_the_tables():
    cards, kinds, text = table("gpu-42"), table("gpu-39"), said("gpu-text-43")
    all_of_it, a100, t4 = kinds["everything"][-1], cards["A100"], cards["T4"]
    assert f"stands near the corner, {all_of_it} beside {a100[0]}: {a100[1]} s for its operations" in text
    pair = kinds["temporal transformer"][-1], kinds["spatial transformer"][-1]
    assert f"transformers ({pair[0]} and {pair[1]}) wait for the memory" in text
    assert f"one after the other, {a100[2]} s." in text
    assert f"stands on the corner, {all_of_it} beside {t4[0]}, and the sum is {float(t4[2]):.2f} s" in text
    assert f"instead of {float(t4[1]):.2f}." in text
    work, moved = (float(kinds["temporal transformer"][i]) / float(kinds["everything"][i]) for i in (0, 1))
    assert 0.23 < work < 0.27 and 0.38 < moved < 0.43  # "a quarter of the work and two fifths of the bytes"


def test_dynamicrafters_weights_arrive_and_each_frame_sees_its_own_tokens():
    assert "640 tensors loaded, max |difference| to those in the file: 0.0\n" in shown("gpu-58")
    assert "after the first spatial transformer: [5]\n" in shown("gpu-58b")
    assert f"after the whole network: {list(range(16))}" in shown("gpu-58b")

"""Every command in tools/ says what it does."""

import copy
import json
import os
import random
import runpy
import sys
from importlib import metadata
from pathlib import Path

import attention_cost
import benchmark
import colab_environment
import execute_notebooks
import lock
import nbformat
import pytest
import torch
import unet2d_ablations
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

TOOLS = Path(__file__).resolve().parents[2] / "tools"
COMMANDS = sorted(path for path in TOOLS.glob("*/*.py") if "argparse" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_a_command_explains_itself(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(command), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(command), run_name="__main__")
    assert stopped.value.code == 0
    first_line = capsys.readouterr().out.split("\n\n")[1].splitlines()[0]
    assert first_line in command.read_text(encoding="utf-8").replace("\n", " ")


SOURCES = [
    "print('one'); import sys; print('two', file=sys.stderr); print('three')",
    "import random; random.random(); {name: len(name) for name in {'b', 'a', 'c'}}",
    "from IPython.display import HTML, display; display(HTML('<b>bold</b>')); object() and None",
    "import ipywidgets; box = ipywidgets.VBox([ipywidgets.IntSlider(i) for i in range(4)]); box",
    "from tqdm import tqdm; sum(tqdm(range(1000)))",
    "import torch; torch.manual_seed(0); torch.randn(300, 300) @ torch.randn(300, 300)",
    "import matplotlib.pyplot as plt; plt.plot([1, 3, 2]); plt.title('ünï'); plt.show()",
    "1 / 0",
    "import os; print(sorted(os.listdir())); hash('text')",
    "id_of = '\\u2028'; id_of",
]


def notebook_of(draw: random.Random) -> nbformat.NotebookNode:
    """Cells in any order, with tags, with ids that are missing or not allowed, and what editors leave behind."""
    cells = []
    for source in draw.sample(SOURCES, len(SOURCES)) + draw.choices(SOURCES, k=3):
        tags = {"tags": ["raises-exception"]} if "1 / 0" in source else draw.choice([{}, {"scrolled": True}])
        cells.append(nbformat.v4.new_code_cell(source, metadata=tags, id=draw.choice(["same", "own", "its-own"])))
        cells.append(nbformat.v4.new_markdown_cell(f"*{draw.random()}*"))
    return nbformat.v4.new_notebook(cells=cells, metadata={"editor": {"opened": draw.random()}})


@pytest.mark.filterwarnings("ignore")  # Of nbformat, about ids that are there twice.
def test_any_notebook_becomes_the_same_bytes_twice(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ | execute_notebooks.ENVIRONMENT)
    written = []
    made = notebook_of(random.Random(0))
    for notebook in (copy.deepcopy(made), copy.deepcopy(made)):
        execute_notebooks.run(notebook)
        written.append(execute_notebooks.normalise(notebook))
    assert written[0] == written[1]
    again = nbformat.reads(written[0], as_version=4)
    assert execute_notebooks.normalise(again) == written[0]
    assert "ZeroDivisionError" in written[0] and "image/png" in written[0] and "widget-view" in written[0]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=50)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["a", "b", "ok-id", "x" * 64]), st.booleans()), max_size=5), TEXTS)
def test_the_one_form_of_a_notebook_is_its_own(cells, note):
    """Whatever stands in it: bringing it into that form again changes nothing, and no source is lost."""
    notebook = nbformat.v4.new_notebook(metadata={"note": note})
    for source, name, is_code in cells:
        kind = nbformat.v4.new_code_cell if is_code else nbformat.v4.new_markdown_cell
        notebook.cells.append(kind(source, id=name, metadata={"tags": ["hide-input"], "other": note}))
        if is_code:
            notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=source)]
    text = execute_notebooks.normalise(notebook)
    read = nbformat.reads(text, as_version=4)
    assert execute_notebooks.normalise(read) == text
    assert [cell.source for cell in read.cells] == [source for source, *_ in cells]
    assert len({cell.id for cell in read.cells}) == len(cells) and "note" not in read.metadata
    assert all(set(cell.metadata) == {"tags"} for cell in read.cells)


def test_the_colab_environment_has_what_the_colab_cell_installs():
    assert colab_environment.extra() == "[book]"


def test_the_pinned_packages_install_on_every_python_from_3_11_on():
    lock_files = [lock.ROOT / "requirements.txt", lock.ROOT / "constraints.txt"]
    pinned = [requirement for path in lock_files for requirement in lock.requested(path)]
    for requirement in pinned:
        package = metadata.distribution(requirement.name)
        pythons = SpecifierSet(package.metadata.get("Requires-Python") or "")
        assert "3.11.0" in pythons and "3.13.0" in pythons, f"{requirement} needs Python {pythons}"


@pytest.mark.usefixtures("unchecked")  # Checks of shapes are slow on fake tensors.
def test_benchmark_counts_what_the_released_network_computes():
    """The released code computes 12.581 TFLOP, of which 0.06 are keys and values of the same tokens for each frame."""
    config = benchmark.vdmlib.UNet3DConfig.videocrafter2()
    once, in_a_step = (sum(benchmark.flops_of_forward(config, 16, 40, 64, cached=c).values()) for c in (False, True))
    assert 12.581e12 > once > in_a_step > 12.5e12
    keys_and_values = sum(2 * 77 * 1024 * 2 * c for c in 5 * [320] + 5 * [640] + 6 * [1280])
    assert once - in_a_step == keys_and_values


def test_benchmark_of_sampling_and_compiling_adds_up(monkeypatch, capsys, tmp_path):
    command = [
        "benchmark.py",
        "--config",
        "tiny",
        "--frames",
        "2",
        "--height",
        "8",
        "--width",
        "8",
        "--sampling",
        "--gains",
        "--compile",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "numbers.json")])
    monkeypatch.setattr(benchmark, "machine_limits", lambda *_: {"matrix product": 2e9, "convolution": 1e9})
    monkeypatch.setattr(benchmark, "compile_network", lambda network: None)  # Compiling takes minutes.
    benchmark.main()
    numbers, printed = json.loads((tmp_path / "numbers.json").read_text()), capsys.readouterr().out
    flops, seconds = numbers["FLOP of a sampling step with guidance"], numbers["sampling step with guidance (s)"]
    assert numbers["sampling (FLOP/s)"] == pytest.approx(flops / seconds)
    assert numbers["sampling share of the machine's matrix product"] == pytest.approx(flops / seconds / 2e9)
    forward, compiled = numbers["forward pass (s)"], numbers["forward pass with torch.compile (s)"]
    assert numbers["gain of torch.compile"] == pytest.approx(forward / compiled)
    gains = [value for name, value in numbers.items() if name.startswith("time with, over without")]
    assert len(gains) == 3 and all(len(ratios) == 3 and all(0 < ratio < 10 for ratio in ratios) for ratios in gains)
    assert numbers["command"].startswith("python tools/measure/benchmark.py --config tiny") and "median of 3" in printed
    assert flops == pytest.approx(2 * numbers["FLOP of a forward pass"], rel=0.02) and "sampling (FLOP/s)" in printed


def test_the_cost_of_attention_is_that_of_the_rows_in_chapter_6(monkeypatch, capsys, tmp_path):
    """Full is one row of everything; in turns are a row for each frame, and then one for each place."""
    rows, attend = [], attention_cost.F.scaled_dot_product_attention

    def recorded(q, k, v):
        rows.append((len(q), q.shape[2]))
        return attend(q, k, v)

    monkeypatch.setattr(attention_cost.F, "scaled_dot_product_attention", recorded)
    monkeypatch.setattr(attention_cost, "SHAPES", [(6, 4)])
    threads, path = torch.get_num_threads(), tmp_path / "cost.json"
    attention_cost.main(["--threads", str(threads), "--repeat", "2", "--file", str(path)])
    assert rows == 3 * [(1, 24), (4, 6), (6, 4)] and "derived 2.4" in capsys.readouterr().out
    [run] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert (run["places"], run["frames"]) == (6, 4) and 0 < min(run["full"], run["in turns"]) < 1


def test_the_stored_cost_of_attention_has_every_shape():
    stored = json.loads(attention_cost.FILE.read_text(encoding="utf-8"))
    assert [(run["places"], run["frames"]) for run in stored["runs"]] == attention_cost.SHAPES
    assert stored["command"].startswith("python tools/measure/attention_cost.py") and stored["threads"] == 1


def test_the_ablations_of_chapter_2_are_those_that_are_stored(monkeypatch, capsys, tmp_path):
    stored = json.loads(unet2d_ablations.FILE.read_text(encoding="utf-8"))["runs"]
    assert list(stored) == list(unet2d_ablations.RUNS) and all(stored.values())
    lengths = {len(errors) for runs in stored.values() for errors in runs.values()}
    assert lengths == {len(unet2d_ablations.TIMES)}

    tiny = {"tiny": unet2d_ablations.Run((8,), steps=2), "tiny, noise": unet2d_ablations.Run((8,), True, 2, True)}
    monkeypatch.setattr(unet2d_ablations, "RUNS", tiny)
    monkeypatch.setattr(sys, "argv", ["unet2d_ablations.py", "--seeds", "3", "--file", str(tmp_path / "runs.json")])
    unet2d_ablations.main()
    first = (tmp_path / "runs.json").read_text(encoding="utf-8")
    assert [name for name, runs in json.loads(first)["runs"].items() if list(runs) == ["3"]] == list(tiny)
    assert len(capsys.readouterr().out.splitlines()) == 2
    unet2d_ablations.main()
    assert (tmp_path / "runs.json").read_text(encoding="utf-8") == first and not capsys.readouterr().out

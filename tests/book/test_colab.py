"""Every notebook runs on Colab's versions, with vdmlib installed from the repository, in an empty folder.

Trainings and samplers are cut short: what they come to is compared with the page by `make notebook-outputs`; here it
matters that every line runs.
"""

import os
import re
import subprocess
from pathlib import Path

import links
import nbformat
import pytest
from execute_notebooks import ROOT, notebooks, run
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

PYTHON = ROOT / ".venv-colab/bin/python"
REQUIREMENTS = ROOT / "requirements-colab.txt"

pytestmark = pytest.mark.colab


@pytest.fixture(autouse=True)
def on_colab(monkeypatch):
    """The kernel believes that it runs on Colab."""
    assert PYTHON.exists(), "no environment with Colab's versions: run `make test-colab`"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    # Two notebooks side by side have a core each.
    monkeypatch.setenv("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
    monkeypatch.delenv("PYTHONPATH", raising=False)


def output_of(source: str) -> str:
    """What a cell prints in a kernel of the Colab environment."""
    notebook = new_notebook(cells=[new_code_cell(source)])
    run(notebook, str(PYTHON))
    return "".join(output.get("text", "") for output in notebook.cells[0].outputs)


def test_the_kernel_has_colabs_versions_and_the_installed_library():
    lines = REQUIREMENTS.read_text().split("\n\n")[0].splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    source = f"from importlib.metadata import version\nprint({{n: version(n) for n in {list(pinned)!r}}})"
    versions = {name: version.split("+")[0] for name, version in eval(output_of(source)).items()}
    assert versions == pinned

    place = Path(output_of("import vdmlib; print(vdmlib.__file__)").strip())
    assert "site-packages" in place.parts
    files = [path for path in (ROOT / "vdmlib").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    missing = [path for path in files if not (place.parent.parent / path.relative_to(ROOT)).exists()]
    assert missing == []


def test_the_library_needs_nothing_that_only_the_tests_have():
    modules = "beartype, pytest, sphinx"
    for module in modules.split(", "):
        found = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, cwd="/")
        assert found.returncode != 0, f"{module} is in the Colab environment, which has to do without"


def test_the_colab_cell_installs_only_on_colab_and_only_once(monkeypatch):
    # The cell itself, with pip replaced by a line that says what it was asked for.
    asked = (
        "import importlib.util\n"
        "from IPython import get_ipython\n"
        "get_ipython().register_magic_function(lambda line: print('pip', line), magic_name='pip')\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'vdmlib' else find_spec(name)\n"
    )
    cell = links.colab_cell(links.address())
    assert output_of(asked + cell) == f'pip install --quiet "vdmlib[book] @ git+{links.address()}"\n'
    assert output_of(asked + "importlib.util.find_spec = find_spec\n" + cell) == ""
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert output_of(asked + cell) == ""


def cut_short(source: str, samplers: bool = True) -> str:
    """The same cell with fifty steps where it trains for a hundred or more, and four where it samples in 10 to 29."""
    source = re.sub(r"(?<=\bsteps=)\d{3,}\b", "50", source)
    return re.sub(r"(?<=\bsteps=)[12]\d\b", "4", source) if samplers else source


def test_trainings_and_samplers_are_cut_short_and_nothing_else():
    assert cut_short("def train(net, steps=600, batch=128):") == "def train(net, steps=50, batch=128):"
    assert cut_short("sample(net, steps=25, seed=25)") == "sample(net, steps=4, seed=25)"
    for source in ("learn(steps=40)", "config = dict(timesteps=1000)"):
        assert cut_short(source) == source


HANDED_OUT = sorted([*ROOT.glob("course/student/*.ipynb"), *ROOT.glob("course/assignments/*/assignment.ipynb")])


@pytest.mark.parametrize("path", [*notebooks(), *HANDED_OUT], ids=lambda path: "-".join(path.parts[-2:]))
def test_notebook_runs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # Chapter 1 looks at each step.
            cell.source = cut_short(cell.source, samplers=not path.stem.startswith("01_"))
    try:
        run(notebook, str(PYTHON))
    except CellExecutionError as error:
        pytest.fail(str(error), pytrace=False)

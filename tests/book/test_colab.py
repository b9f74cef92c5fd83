"""The coursework runs on Colab's versions, with vdmlib installed from the repository, in an empty folder.

So do the chapters, in `make notebook-outputs`, which compares what they print with the page. What chapter 11 shows
needs packages that its own cell installs on Colab (`open_clip_torch`) and that this environment lacks; its outputs are
compared in the book's environment, and here it runs without them, with two steps where it samples in ten or more.
"""

import json
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


def test_the_kernel_of_that_name_is_this_environments():
    spec = json.loads((ROOT / ".venv-colab/share/jupyter/kernels/colab/kernel.json").read_text(encoding="utf-8"))
    assert Path(spec["argv"][0]) == PYTHON


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


HANDED_OUT = sorted([*ROOT.glob("course/student/*.ipynb"), *ROOT.glob("course/assignments/*/assignment.ipynb")])


[SAMPLING] = [path for path in notebooks() if path.name.startswith("11_")]


@pytest.mark.parametrize("path", [SAMPLING, *HANDED_OUT], ids=lambda path: "-".join(path.parts[-2:]))
def test_notebook_runs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells if path == SAMPLING else ():
        cell.source = re.sub(r"(?<=\bsteps=)\d\d\b", "2", cell.source)
    try:
        run(notebook, str(PYTHON))
    except CellExecutionError as error:
        pytest.fail(str(error), pytrace=False)

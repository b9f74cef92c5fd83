"""The rules that every notebook of the book keeps. Each rule is shown to find the fault it is there for."""

import base64
import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import links
import nbformat
import pytest
from execute_notebooks import (
    CELL_METADATA,
    KERNELSPEC,
    LANGUAGE_INFO,
    ROOT,
    WIDGET_STATE,
    normalise,
    notebooks,
    run,
)
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

Rule = Callable[[NotebookNode, str], Iterator[str]]
RULES: list[Rule] = []
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/svg+xml", "video/mp4")
FROM_ELSEWHERE = r"!\[[^\]]*\]\(\s*https?:\S+|<(?:img|script|video|iframe|link)\b[^>]*https?:[^>]*"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(notebook: NotebookNode) -> Iterator[str]:
    """Everything a reader can see as text: sources and textual outputs."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield value


def mimetypes(cell: NotebookNode) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {})}


@rule
def executed_from_top_to_bottom(notebook, path):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"


@rule
def errors_only_where_announced(notebook, path):
    for cell in code_cells(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed != ("raises-exception" in tags(cell)):
            yield f"cell {cell.execution_count} {'fails' if failed else 'does not fail'} against its tags"


@rule
def no_warnings(notebook, path):
    for cell in code_cells(notebook):
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"cell {cell.execution_count} writes to stderr"


@rule
def clean_metadata(notebook, path):
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        yield f"kernelspec is {notebook.metadata.get('kernelspec')}"
    if notebook.metadata.get("language_info") != LANGUAGE_INFO:
        yield "language_info names more than the language"
    if extra := set(notebook.metadata) - {"kernelspec", "language_info", "widgets"}:
        yield f"notebook metadata {sorted(extra)}"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - set(CELL_METADATA):
            yield f"cell metadata {sorted(extra)}"


@rule
def stored_by_the_executor(notebook, path):
    if len({cell.get("id") for cell in notebook.cells}) != len(notebook.cells):
        yield "cell ids are missing or double"
    models = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    if sorted(models) != [f"{number:032x}" for number in range(len(models))]:
        yield "widget ids are not numbered"


@rule
def pictures_have_a_text_alternative(notebook, path):
    for cell in code_cells(notebook):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        shown = mimetypes(cell) & {*PICTURES, WIDGET_VIEW}
        if shown and len(alt.split()) < 3:
            yield f"cell {cell.execution_count} shows a picture and says in no words what is on it"
        if alt and not shown and "<video" not in str(cell.outputs):
            yield f"cell {cell.execution_count} says what is on a picture and shows none"


@rule
def widgets_keep_their_state(notebook, path):
    models = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for cell in code_cells(notebook):
        for output in cell.outputs:
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view and view["model_id"] not in models:
                yield f"cell {cell.execution_count} shows a widget whose state is not stored"


@rule
def title_first_with_a_link_to_colab(notebook, path):
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is not the title"
    if links.colab_link(path, links.address()) not in first.source:
        yield f"the first cell has no link to {links.colab_link(path, links.address())}"


@rule
def colab_cell_first(notebook, path):
    cell = code_cells(notebook)[0]
    if cell.source != links.colab_cell(links.address()):
        yield "the first code cell is not the one in tools/book/links.py"
    if "hide-input" not in tags(cell):
        yield "the Colab cell is not hidden in the book"


@rule
def seeded(notebook, path):
    source = "\n".join(cell.source for cell in code_cells(notebook))
    if "torch." in source and "torch.manual_seed(" not in source:
        yield "torch has no seed"
    if "np.random." in source and not re.search(r"default_rng\(\d", source):
        yield "numpy has no seed"


@rule
def the_same_on_every_machine(notebook, path):
    for text in texts(notebook):
        for found in re.findall(r"(?<![\w.:/-])/(?:home|root|Users|tmp|usr|opt|work|content|mnt)/\S*", text):
            yield f"a path of one machine: {found}"
        for found in re.findall(r"\bat 0x[0-9a-f]{6,}", text):
            yield f"an address in memory: {found}"


@rule
def no_pictures_from_elsewhere(notebook, path):
    for text in texts(notebook):
        for found in re.findall(FROM_ELSEWHERE, text):
            yield f"the page would ask another site for {found}"


@rule
def small(notebook, path):
    size = len(nbformat.writes(notebook).encode()) / 1e6
    if size >= 3:
        yield f"{size:.1f} MB; the limit is 3"


@rule
def short_enough_to_be_read(notebook, path):
    """At most 5,000 words, formulas included, and 600 lines of code that is not folded."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    if words > 5_000:
        yield f"{words:,} words; the limit is 5,000"
    shown = [cell.source for cell in code_cells(notebook) if "hide-input" not in tags(cell)]
    lines = sum(bool(line.strip()) for source in shown for line in source.splitlines())
    if lines > 600:
        yield f"{lines} lines of code are shown; the limit is 600"


@rule
def five_questions_to_check_yourself(notebook, path):
    """At least five, numbered from 1, each with an answer that is folded."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    section = prose.partition("\n## Check yourself\n")[2].partition("\n## ")[0]
    numbers = re.findall(r"^:::\{dropdown\} (?:(\d+) · )?\S.*\n(?!:::)\S", section, flags=re.MULTILINE)
    if len(numbers) < 5 or numbers != [str(number) for number in range(1, len(numbers) + 1)]:
        yield f"its questions have the numbers {numbers}"


def problems(notebook: NotebookNode, path: str) -> list[str]:
    return [f"{check.__name__}: {problem}" for check in RULES for problem in check(notebook, path)]


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebook_keeps_every_rule(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook, str(path.relative_to(ROOT))) == []


# A notebook that keeps every rule, and one fault for each of them.

PIXEL = base64.b64encode(b"\x89PNG").decode()


def sample() -> NotebookNode:
    """A notebook that keeps every rule."""
    colab = links.colab_link("book/sample.ipynb", links.address())
    cells = [
        new_markdown_cell(f"# A title\n\n[Open in Colab]({colab})"),
        new_code_cell(links.colab_cell(links.address()), metadata={"tags": ["hide-input"]}),
        new_code_cell("import torch\n\n_ = torch.manual_seed(0)"),
        new_code_cell(
            "show(torch.rand(3))",
            outputs=[new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure>"})],
            metadata={"mystnb": {"image": {"alt": "Three grey values in a row."}}},
        ),
        new_code_cell(
            "raise NotImplementedError",
            outputs=[new_output("error", ename="NotImplementedError", evalue="", traceback=[])],
            metadata={"tags": ["raises-exception"]},
        ),
    ]
    for number, cell in enumerate(cells[1:], start=1):
        cell.execution_count = number
    questions = (f":::{{dropdown}} {number} · Why?\nBecause.\n:::\n" for number in range(1, 6))
    cells.append(new_markdown_cell("\n".join(["## Check yourself\n", *questions])))
    metadata = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    return new_notebook(cells=cells, metadata=metadata)


def test_the_sample_keeps_every_rule():
    assert problems(sample(), "book/sample.ipynb") == []


def not_executed(notebook):
    notebook.cells[3].execution_count = None


def run_twice(notebook):
    notebook.cells[3].execution_count = 7


def error(notebook):
    notebook.cells[4].metadata.tags = []


def announced_error_that_does_not_come(notebook):
    notebook.cells[4].outputs = []


def warning(notebook):
    notebook.cells[2].outputs = [new_output("stream", name="stderr", text="UserWarning")]


def other_kernel(notebook):
    notebook.metadata.kernelspec = {**KERNELSPEC, "name": "my-venv"}


def python_version(notebook):
    notebook.metadata.language_info = {**LANGUAGE_INFO, "version": "3.11.7"}


def editor_metadata(notebook):
    notebook.metadata["colab"] = {"provenance": []}


def timing(notebook):
    notebook.cells[2].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00"}


def double_ids(notebook):
    notebook.cells[1].id = notebook.cells[2].id


def random_widget_ids(notebook):
    notebook.metadata["widgets"] = {WIDGET_STATE: {"state": {"8f14e45fceea167a5a36dedd4bea2543": {}}}}


def no_alt(notebook):
    del notebook.cells[3].metadata["mystnb"]


def no_alt_on_a_widget(notebook):
    notebook.cells[3].outputs = [new_output("display_data", {WIDGET_VIEW: {"model_id": f"{0:032x}"}})]
    notebook.metadata["widgets"] = {WIDGET_STATE: {"state": {f"{0:032x}": {}}}}
    notebook.cells[3].metadata.mystnb.image.alt = "widget"


def alt_without_a_picture(notebook):
    notebook.cells[3].outputs = [new_output("stream", name="stdout", text="3 grey values")]


def widget_without_state(notebook):
    notebook.cells[3].outputs = [new_output("display_data", {WIDGET_VIEW: {"model_id": f"{0:032x}"}})]


def no_title(notebook):
    notebook.cells[0].source = notebook.cells[0].source.removeprefix("# ")


def link_to_another_notebook(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("sample", "copy")


def other_colab_cell(notebook):
    notebook.cells[1].source = "!pip install torch==2.0"


def colab_cell_shown(notebook):
    notebook.cells[1].metadata.tags = []


def no_seed(notebook):
    notebook.cells[2].source = "import torch"


def no_numpy_seed(notebook):
    notebook.cells[3].source = "np.random.rand(3)"


def absolute_path(notebook):
    notebook.cells[2].source += "\nopen('/home/me/data.npz')"


def absolute_path_in_output(notebook):
    notebook.cells[2].outputs = [new_output("stream", name="stdout", text="saved to /tmp/x.png")]


def memory_address(notebook):
    notebook.cells[2].outputs = [
        new_output("execute_result", {"text/plain": "<Axes at 0x7f3a5c1d2e50>"}, execution_count=2)
    ]


def foreign_picture(notebook):
    notebook.cells[0].source += "\n![](https://example.org/badge.svg)"


def foreign_script(notebook):
    notebook.cells[2].outputs = [
        new_output("display_data", {"text/html": '<script src="https://example.org/x.js"></script>'})
    ]


def heavy(notebook):
    notebook.cells[3].outputs[0].data["image/png"] = "A" * 3_100_000


def too_many_words(notebook):
    notebook.cells[0].source += " word" * 5_000


def too_much_code(notebook):
    notebook.cells[2].source += "\nx = 1" * 600


def question_without_number(notebook):
    notebook.cells[5].source = notebook.cells[5].source.replace("} 3 · ", "} ")


def four_questions(notebook):
    notebook.cells[5].source = notebook.cells[5].source.partition(":::{dropdown} 5")[0]


def question_without_answer(notebook):
    notebook.cells[5].source = notebook.cells[5].source.replace("Because.\n", "", 1)


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")  # double_ids makes them
@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (executed_from_top_to_bottom, not_executed),
        (executed_from_top_to_bottom, run_twice),
        (errors_only_where_announced, error),
        (errors_only_where_announced, announced_error_that_does_not_come),
        (no_warnings, warning),
        (clean_metadata, other_kernel),
        (clean_metadata, python_version),
        (clean_metadata, editor_metadata),
        (clean_metadata, timing),
        (stored_by_the_executor, double_ids),
        (stored_by_the_executor, random_widget_ids),
        (pictures_have_a_text_alternative, no_alt),
        (pictures_have_a_text_alternative, no_alt_on_a_widget),
        (pictures_have_a_text_alternative, alt_without_a_picture),
        (widgets_keep_their_state, widget_without_state),
        (title_first_with_a_link_to_colab, no_title),
        (title_first_with_a_link_to_colab, link_to_another_notebook),
        (colab_cell_first, other_colab_cell),
        (colab_cell_first, colab_cell_shown),
        (seeded, no_seed),
        (seeded, no_numpy_seed),
        (the_same_on_every_machine, absolute_path),
        (the_same_on_every_machine, absolute_path_in_output),
        (the_same_on_every_machine, memory_address),
        (no_pictures_from_elsewhere, foreign_picture),
        (no_pictures_from_elsewhere, foreign_script),
        (small, heavy),
        (short_enough_to_be_read, too_many_words),
        (short_enough_to_be_read, too_much_code),
        (five_questions_to_check_yourself, question_without_number),
        (five_questions_to_check_yourself, four_questions),
        (five_questions_to_check_yourself, question_without_answer),
    ],
    ids=lambda value: value.__name__,
)
def test_a_rule_finds_its_fault_and_nothing_else_is_blamed(check, fault):
    notebook = sample()
    fault(notebook)
    found = problems(notebook, "book/sample.ipynb")
    assert found and all(problem.startswith(f"{check.__name__}:") for problem in found)


def test_every_rule_has_a_fault():
    marks = test_a_rule_finds_its_fault_and_nothing_else_is_blamed.pytestmark
    [faults] = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert {check for check, _ in faults} == set(RULES)


# The executor: whatever a notebook comes with, it is stored in one form.

WIDGETS = """
import ipywidgets
slider = ipywidgets.IntSlider(description="step")
play = ipywidgets.Play()
ipywidgets.jslink((play, "value"), (slider, "value"))
ipywidgets.HBox([play, slider])
"""
FAILS = "import json, einops\ntry:\n    json.loads('x')\nfinally:\n    einops.rearrange([], 'b c ->')"
WORKS_ALONE = "import os\nprint(os.listdir())\nfor word in ('one', 'two'):\n    print(word, flush=True)"


def test_executing_twice_gives_the_same_bytes():
    cells = [
        new_code_cell(WIDGETS, metadata={"execution": {"started": "today"}, "tags": ["kept"]}),
        new_code_cell(FAILS, metadata={"tags": ["raises-exception"]}),
        new_code_cell(WORKS_ALONE),
    ]
    original = new_notebook(cells=cells, metadata={"kernelspec": {"name": "mine", "display_name": "Mine"}})
    stored = []
    for _ in range(2):
        notebook = copy.deepcopy(original)
        run(notebook)
        stored.append(normalise(notebook))
    assert stored[0] == stored[1]

    notebook = nbformat.reads(stored[0], as_version=4)
    assert list(clean_metadata(notebook, "")) == list(stored_by_the_executor(notebook, "")) == []
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert notebook.cells[2].outputs[0].text == "[]\none\ntwo\n"
    assert "kept" in notebook.cells[0].metadata.tags
    assert str(ROOT) not in stored[0] and str(Path.home()) not in stored[0]
    traceback = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(notebook.cells[1].outputs[0].traceback))
    assert "File json/__init__.py:" in traceback and "File einops/einops.py:" in traceback
    assert list(the_same_on_every_machine(notebook, "")) == []
    assert stored[0].endswith("}\n")


def execute(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools/book/execute_notebooks.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_writes_checks_and_leaves_a_failing_notebook_alone(tmp_path):
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(1 + 1)")]), good)
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), bad)
    before = bad.read_bytes()

    assert execute("--check", good).returncode == 1
    result = execute(good, bad)
    assert result.returncode == 1
    assert "good.ipynb: written" in result.stdout and "bad.ipynb: a cell failed" in result.stderr
    assert bad.read_bytes() == before
    checked = execute("--check", good)
    assert checked.returncode == 0 and "good.ipynb: as stored" in checked.stdout

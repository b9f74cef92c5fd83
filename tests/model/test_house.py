"""What holds for every module of the library; ``make lint`` runs it too, so nothing heavy is imported."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "vdmlib"
LONGEST = 60  # A screen.


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines, first = function.end_lineno - function.lineno + 1, function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_function_fits_on_a_screen(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lengths = {
        f"{path.relative_to(FOLDER)}: {function.name}": lines_without_docstring(function)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert [name for name, lines in lengths.items() if lines > LONGEST] == []

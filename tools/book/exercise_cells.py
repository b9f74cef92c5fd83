"""The exercises of a notebook: their cells, and which statements of the chapter a check needs."""

import ast
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass
class Exercise:
    """An exercise with a check: the sources of its cells, and of all cells above its check."""

    label: str
    above: list[str]
    stub: str
    check: str = ""
    solution: str = ""

    @property
    def check_name(self) -> str:
        names = [name for name in sorted(names_of(self.check)[0]) if name.startswith("check_")]
        if len(names) != 1:
            raise AssertionError(f"{self.label}: the second cell defines {names or 'no check'}, not one check_…")
        return names[0]


def exercises(path: Path) -> list[Exercise]:
    """The exercises of a notebook that have code: a stub, a check and, in the solution, what the stub has defined."""
    found: dict[str, Exercise] = {}
    above: list[str] = []
    for place, label, source in _places(path):
        exercise = found.get(label)
        if place == "exercise" and exercise is None:
            found[label] = Exercise(label, list(above), source)
        elif place == "exercise" and not exercise.check:
            exercise.check = source
        elif place == "solution" and exercise and names_of(source)[0] & names_of(exercise.stub)[0]:
            exercise.solution += source + "\n"
        above.append(source)
    return list(found.values())


def _places(path: Path) -> Iterator[tuple[str, str, str]]:
    """For every code cell: whether it stands in an exercise, in a solution or elsewhere, of which label; its source."""
    place = label = ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            yield place, label, python_of(cell.source)
            continue
        for line in cell.source.splitlines():
            if line.startswith(("```{exercise-start}", "```{solution-start}")):
                place, label = line.removeprefix("```{").split("-")[0], line.split()[-1]
            elif line.startswith(":label: ") and place == "exercise":
                label = line.split()[-1]
            elif line.startswith(("```{exercise-end}", "```{solution-end}")):
                place = ""


def python_of(cell: str) -> str:
    """A cell without IPython's commands, which install packages on Colab."""
    return re.sub(r"^(\s*)[%!].*", r"\1pass", cell, flags=re.MULTILINE)


# Which statements a check needs ---------------------------------------------------------------------------------


def needed_of(cells: list[str], needed: set[str]) -> list[str]:
    """The statements of these cells that define the needed names, without their comments."""
    return [ast.unparse(node) for _, node in needed_statements(cells, needed)]


def needed_statements(cells: list[str], needed: set[str]) -> list[tuple[int, ast.stmt]]:
    """The statements that define the needed names, with what they need themselves, in order, each with its cell.

    A statement counts that binds a needed name, or that changes one: ``net.eval()``, ``table["x"] = 1``,
    ``Net.forward = forward``. What a function uses may also be defined after it.
    """
    statements = [(number, node) for number, cell in enumerate(cells) for node in ast.parse(cell).body]
    imports = [ast.unparse(node) for _, node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = set().union(*(names_of(source)[0] for source in imports))
    later: set[str] = set()
    while True:
        kept, wanted, called = [], needed | later, set()
        for number, node in reversed(statements):
            source = ast.unparse(node)
            bound, used = names_of(source)
            if not wanted & (bound | (_changed(node) - imported)):
                continue
            kept.append((number, node))
            if isinstance(node, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                wanted -= bound  # An earlier definition counts only if something above needs it.
            wanted |= used
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                called |= used
        if called <= later:
            return kept[::-1]
        later |= called


def names_of(source: str) -> tuple[set[str], set[str]]:
    """The global names that a piece of Python binds, and those that it uses, at once or when it is called."""
    bound, used = set(), set()
    tables = [symtable.symtable(source, "cell", "exec")]
    for table in tables:
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() != "module" and not symbol.is_global():
                continue
            if symbol.is_assigned() or symbol.is_imported():
                bound.add(symbol.get_name())
            if symbol.is_referenced():
                used.add(symbol.get_name())
    return bound, used


def _changed(node: ast.stmt) -> set[str]:
    """The names of the objects that a statement changes, as far as one sees it."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [node.value.func]
    names = set()
    for target in targets:
        if isinstance(target, ast.Attribute | ast.Subscript):
            while isinstance(target, ast.Attribute | ast.Subscript | ast.Call):
                target = target.func if isinstance(target, ast.Call) else target.value
            names |= {target.id} if isinstance(target, ast.Name) else set()
    return names

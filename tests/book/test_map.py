"""The map of the library, ``vdmlib/README.md``, shows the house as it is, and in the house one only walks downwards."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "vdmlib"
LINE = re.compile(r"^- \[`([\w.]+)`\]\(([\w/.]+)\): (.+)$")
MODEL, HELPERS = "The model", "Its helpers"


@cache
def sections() -> dict[str, dict[str, tuple[str, str]]]:
    """The map: section → module → (its file, what is said of it), all in their order."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ").split(":")[0]] = section = {}
        elif entry := LINE.match(line):
            section[entry[1]] = entry.groups()[1:]
    return found


def lines() -> dict[str, tuple[str, str]]:
    return {name: line for section in sections().values() for name, line in section.items()}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


FILES = {module_name(path): path for path in sorted(FOLDER.rglob("*.py"))}
WINGS = {name for name, path in FILES.items() if path.stem == "__init__"}


def first_line(name: str) -> str:
    return ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8"))).splitlines()[0]


def imports(name: str) -> set[str]:
    """The modules of the library that a module imports, at its top or inside a function."""
    package = name.split(".") if name in WINGS - {""} else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) + 1 - node.level], *(node.module.split(".") if node.module else [])]
            for imported in node.names:
                inner = ".".join([*base, imported.name])
                found.add(inner if inner in FILES else ".".join(base))
    return found


def test_every_module_stands_on_the_map_once():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(lines()) == len(re.findall(r"^- ", text, re.MULTILINE))
    assert set(lines()) == set(FILES) - WINGS
    assert all(FOLDER / path == FILES[name] for name, (path, _) in lines().items())


@pytest.mark.parametrize("name", sorted(set(FILES) - WINGS))
def test_what_the_map_says_is_the_first_line_of_the_docstring(name):
    assert lines()[name][1] == first_line(name)


def test_the_model_stands_in_the_order_of_the_chapters():
    """By the first chapter that each names; the tables of shapes, which show networks of two chapters, come last."""
    first = [int(re.search(r"chapters? (\d+)", said)[1]) for _, said in sections()[MODEL].values()]
    *model, _shapes = first
    assert model == sorted(model) and list(sections()[MODEL])[-1] == "shapes"


@pytest.mark.parametrize("name", sorted(set(FILES) - WINGS))
def test_imports_only_go_down(name):
    """To helpers, and to what stands above on the map, which is below in the house: so there is no circle."""
    helpers, order = set(sections()[HELPERS]), list(lines())
    known = {place for place in order[: order.index(name)] if name not in helpers} | helpers - {name}
    known |= {wing for wing in WINGS - {""} if all(m in known for m in FILES if m.startswith(f"{wing}."))}
    assert imports(name) <= known


def test_helpers_stand_on_nothing_else_and_in_no_circle():
    order = list(sections()[HELPERS])
    for name in order:
        assert imports(name) <= set(order[: order.index(name)])


def test_the_model_knows_nothing_of_its_wings_and_the_wings_nothing_of_each_other():
    for name in FILES:
        wings = {imported.split(".")[0] for imported in imports(name)} & (WINGS - {""})
        if name in sections()[MODEL] or name in sections()[HELPERS]:
            assert not wings
        if name.split(".")[0] in ("small", "released"):
            assert wings <= {name.split(".")[0], "viz"}


def test_rules_see_the_faults_they_are_there_for():
    assert imports("unet3d") >= {"attention", "checks"} and "shapes" not in imports("unet2d")
    assert "small.data" in imports("small.model") and "unet3d" in imports("small.model")
    assert imports("") >= {"small", "released.checkpoints"}

"""Every example in a docstring of the library and in the README runs as it stands."""

import ast
import doctest
import importlib
import re
import textwrap
from pathlib import Path

import pytest
import torch

import vdmlib
from vdmlib.released.synthetic import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(vdmlib.__file__).parent
EXAMPLE = re.compile(r"^( *)Examples?::\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)

# What an example may take for granted, as small as its networks accept.
GIVEN = dict(
    x=torch.randn(1, 2, 4, 8, 8),
    timesteps=torch.tensor([500]),
    context=torch.randn(1, 77, 256),
    noisy=torch.randn(2, 1, 16, 16),
    noise_level=torch.tensor([0.3, 0.9]),
)


# Lines of a docstring that are code: what is typed at a prompt, and calls of the library that stand indented.
CODE = re.compile(r"^ *>>> .*|^    +(?:\w+ = )?vdmlib\.\S+\(.*", re.MULTILINE)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")


def docstrings(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    return [text for node in nodes if isinstance(node, documented) and (text := ast.get_docstring(node, clean=True))]


def examples(text: str) -> list[str]:
    """The code of a docstring that is run here."""
    written = [textwrap.dedent(found[2]) for found in EXAMPLE.finditer(text + "\n")]
    return written + [f">>> {example.source}" for example in doctest.DocTestParser().get_examples(text)]


PATHS = sorted(FOLDER.rglob("*.py"))
DOCSTRINGS = [
    pytest.param(module_name(path), text, id=f"{module_name(path)}-{number}")
    for path in PATHS
    for number, text in enumerate(text for text in docstrings(path) if examples(text))
]
README = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Where an example finds what it names: tiny weights as if they were downloaded, and a folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("VideoCrafter/VideoCrafter2", "somewhere"):
        (tmp_path / name).mkdir(parents=True)
    tiny_checkpoint(tmp_path / "VideoCrafter/VideoCrafter2")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("module, text", DOCSTRINGS)
def test_the_example_of_a_docstring_runs(module, text):
    names = vars(importlib.import_module(module)) | {"vdmlib": vdmlib, "torch": torch} | GIVEN
    with torch.no_grad():
        for found in EXAMPLE.finditer(text + "\n"):
            exec(textwrap.dedent(found[2]), names)
        asked = doctest.DocTestParser().get_doctest(text, names, module, None, None)
        assert doctest.DocTestRunner(verbose=False).run(asked).failed == 0


@pytest.mark.parametrize("code", README)
def test_the_example_of_the_readme_runs(code):
    exec(code, {})


def test_no_example_is_overlooked():
    for path in PATHS:
        lines = [line.strip() for text in docstrings(path) for line in CODE.findall(text)]
        run = "\n".join(code for text in docstrings(path) for code in examples(text))
        assert [line for line in lines if line not in run] == [], path
        assert path.read_text(encoding="utf-8").count("Example") == sum(
            len(EXAMPLE.findall(text + "\n")) for text in docstrings(path)
        ), path
    assert len(DOCSTRINGS) > 8 and README

"""Every example in a docstring of the library and in the README runs as it stands."""

import importlib
import re
import textwrap
from pathlib import Path

import pytest
import torch

import vdmlib

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


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")


DOCSTRINGS = [
    pytest.param(module_name(path), textwrap.dedent(found[2]), id=f"{module_name(path)}-{number}")
    for path in sorted(FOLDER.rglob("*.py"))
    for number, found in enumerate(EXAMPLE.finditer(path.read_text(encoding="utf-8")))
]
README = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("module, code", DOCSTRINGS)
def test_the_example_of_a_docstring_runs(module, code):
    names = vars(importlib.import_module(module)) | {"vdmlib": vdmlib, "torch": torch}
    with torch.no_grad():
        exec(code, names | GIVEN)


@pytest.mark.parametrize("code", README)
def test_the_example_of_the_readme_runs(code):
    exec(code, {})


def test_no_example_is_overlooked():
    documented = sum(path.read_text(encoding="utf-8").count("Example") for path in FOLDER.rglob("*.py"))
    assert len(DOCSTRINGS) == documented and README

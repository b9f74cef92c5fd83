"""A zip for Gradescope, in the layout that its documentation, "Autograder Specifications", asks for."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .feedback import Grade
from .parts import Assignment

SETUP = """#!/usr/bin/env bash
# Once, when Gradescope builds the image: Python, PyTorch for processors, and this copy of the library.
# Ubuntu 22.04, the default image, has Python 3.10, and as its 3.11 a release candidate that PyTorch fails with.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y software-properties-common
add-apt-repository -y ppa:deadsnakes/ppa
apt-get update
apt-get install -y python3.12 python3.12-venv
python3.12 -m venv /autograder/environment
/autograder/environment/bin/pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
/autograder/environment/bin/pip install --no-cache-dir "/autograder/source[book]"
"""
RUN = """#!/usr/bin/env bash
# For every submission: grades it and writes results.json.
cd "$(dirname "$0")"
export PATH="$PWD/environment/bin:$PATH"
python -m vdmlib.grade submission {options} --jobs 1 --out results/grades.csv --results results/results.json
"""
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "vdmlib"
dynamic = ["version"]
requires-python = ">=3.11"
dependencies = [{dependencies}]

[project.optional-dependencies]
book = ["ipython", "ipywidgets", "matplotlib", "mlxtend>=0.23,<0.24", "torchinfo"]

[tool.setuptools.dynamic]
version = {{ attr = "vdmlib.__version__" }}

[tool.setuptools.packages.find]
include = ["vdmlib*"]

[tool.setuptools.package-data]
vdmlib = ["**/*.safetensors", "**/*.json", "py.typed"]
"""
DEPENDENCIES = ("einops", "jaxtyping", "numpy", "pillow", "safetensors", "torch", "tqdm")


def write_zip(path: Path, options: Sequence[str]) -> None:
    """The autograder: ``setup.sh``, ``run_autograder``, and the library with its checks.

    Args:
        path: of the zip.
        options: of the grader, as on the command line.
    """
    library = Path(__file__).parents[1]
    project = PROJECT.format(dependencies=", ".join(f'"{name}"' for name in DEPENDENCIES))
    texts = {"setup.sh": SETUP, "run_autograder": RUN.format(options=" ".join(options)), "pyproject.toml": project}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name != "pyproject.toml" else 0o644) << 16
            archive.writestr(info, text)
        for file in sorted(library.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, Path("vdmlib") / file.relative_to(library))


def results(grade: Grade, assignment: Assignment) -> Mapping[str, Any]:
    """One submission as ``results.json`` holds it: a test for each part, and the page with all of them.

    Returns:
        ``score``, ``execution_time``, ``output`` with its format, and ``tests``.
    """
    tests = []
    for number, part in enumerate(assignment.parts, 1):
        section = grade.page.partition(f"\n## {part.name}: ")[2].partition("\n## ")[0]
        output = section.partition("\n")[2].strip()
        points = grade.points.get(part.name, 0.0)
        scores = {"score": points, "max_score": part.points, "status": "passed" if points == part.points else "failed"}
        tests.append({**scores, "name": part.name, "number": str(number), "output": output, "output_format": "md"})
    head = grade.page.partition("\n## ")[0]
    return {
        "score": grade.total,
        "execution_time": round(grade.seconds),
        "output": head,
        "output_format": "md",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def write_results(path: Path, grades: Sequence[Grade], assignment: Assignment) -> None:
    """``results.json`` of the one submission that Gradescope hands over."""
    path.write_text(json.dumps(results(grades[0], assignment), indent=1), encoding="utf-8")

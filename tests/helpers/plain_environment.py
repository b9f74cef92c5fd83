"""An environment that holds vdmlib, as its wheel installs it, and the packages it declares: nothing else.

Packages are linked from the environment the tests run in, so nothing is downloaded and it takes seconds.
"""

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """The library as it would be installed; built from a copy, since what an earlier build left would come along."""
    copy = folder / "source"
    shutil.copytree(ROOT / "vdmlib", copy / "vdmlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("vdmlib-*.whl"))


def create(folder: Path, wheel: Path, extras: Iterable[str] = ()) -> Path:
    """A Python that sees the wheel, what it requires with these extras, and what that requires; returns its path."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        text = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    wanted = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)$", text, flags=re.M)]
    for distribution in _closure(wanted, set(extras)):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            target = site / name
            if not target.exists():
                target.symlink_to(Path(distribution.locate_file(name)))
    return folder / "bin" / "python"


def _closure(requirements: list[Requirement], extras: set[str]) -> list[metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    waiting = [(requirement, {"", *extras}) for requirement in requirements]
    while waiting:
        requirement, chosen = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in chosen):
            continue
        key = f"{name}[{','.join(sorted(requirement.extras))}]"
        if key in found:
            continue
        try:
            found[key] = distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # Of another system, such as the GPU packages of torch.
        waiting += [(Requirement(text), {"", *requirement.extras}) for text in distribution.requires or ()]
    return list(found.values())

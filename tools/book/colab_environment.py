"""Build the environment of `make notebook-outputs`: Colab's versions, and vdmlib installed as its first cell does it.

The library is installed as a wheel, with the extra that the Colab cell asks for. That may add nothing and must
change nothing: on Colab, a changed numpy or ipykernel asks for a restart in the middle of a chapter. Jupyter finds
the environment as the kernel `colab`, where JUPYTER_PATH names its folder share/jupyter.
"""

import argparse
import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import links

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-colab.txt"
PIP = ("-m", "pip", "--disable-pip-version-check")


def installed(python: Path) -> dict[str, str]:
    """Name to version of every package of an environment, vdmlib aside."""
    listed = subprocess.run([python, *PIP, "list", "--format", "json"], capture_output=True, check=True)
    packages = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    packages.pop("vdmlib", None)
    return packages


def extra() -> str:
    """The extra that the Colab cell installs, as in `[book]`."""
    return re.search(r'"vdmlib(\[\w+\]) @ git', links.colab_cell(links.address()))[1]


def name_kernel(python: Path) -> None:
    """Let Jupyter start this Python under the name `colab`."""
    argv = [str(python.absolute()), "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
    spec = {"argv": argv, "display_name": "Colab's versions", "language": "python"}
    file = python.absolute().parents[1] / "share/jupyter/kernels/colab/kernel.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(spec), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the environment is kept")
    folder = parser.parse_args().folder
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, *PIP, "install", "--quiet", "--no-compile", "-r", REQUIREMENTS], check=True)
    before = installed(python)
    # A wheel of the same version is not installed over an older one unless it is told to.
    subprocess.run([python, *PIP, "uninstall", "--yes", "vdmlib"], check=True, capture_output=True)
    subprocess.run([python, *PIP, "install", "--quiet", "--no-cache-dir", f"{ROOT}{extra()}"], check=True)
    after = installed(python)
    moved = [name for name in before | after if before.get(name) != after.get(name)]
    if moved:
        changed = [f"{name} {before.get(name)} -> {after.get(name)}" for name in moved]
        sys.exit(
            "installing vdmlib changed Colab's packages (or brought one that requirements-colab.txt does not list): "
            + ", ".join(changed)
        )
    name_kernel(python)


if __name__ == "__main__":
    main()

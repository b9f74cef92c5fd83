"""Every command in tools/ says what it does."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import colab_environment
import lock
import pytest
from packaging.specifiers import SpecifierSet

TOOLS = Path(__file__).resolve().parent.parent / "tools"
COMMANDS = sorted(path for path in TOOLS.glob("*.py") if "argparse" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_a_command_explains_itself(command):
    result = subprocess.run([sys.executable, command, "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    first_line = result.stdout.split("\n\n")[1].splitlines()[0]
    assert first_line in command.read_text(encoding="utf-8").replace("\n", " ")


def test_the_colab_environment_has_what_the_colab_cell_installs():
    assert colab_environment.extra() == "[book]"


def test_the_pinned_packages_install_on_every_python_from_3_11_on():
    lock_files = [lock.ROOT / "requirements.txt", lock.ROOT / "constraints.txt"]
    pinned = [requirement for path in lock_files for requirement in lock.requested(path)]
    assert len(pinned) > 50
    for requirement in pinned:
        package = metadata.distribution(requirement.name)
        pythons = SpecifierSet(package.metadata.get("Requires-Python") or "")
        assert "3.11.0" in pythons and "3.13.0" in pythons, f"{requirement} needs Python {pythons}"

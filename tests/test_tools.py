"""Every command in tools/ says what it does."""

import subprocess
import sys
from pathlib import Path

import colab_environment
import pytest

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

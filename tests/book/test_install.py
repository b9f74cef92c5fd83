"""Every command that README and book print works with what the install line above it installs."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import nbformat
import plain_environment
import pytest
from execute_notebooks import notebooks
from PIL import Image

from vdmlib.released.synthetic import tiny_checkpoint

ROOT = plain_environment.ROOT
# On a line of its own, or in the first cell of a chapter.
INSTALL = re.compile(r'(?:pip install|source =) "vdmlib(?:\[(?P<extras>[\w,]+)\])? @ ')


def printed_commands(text: str) -> list[tuple[tuple[str, ...], str]]:
    """The extras of the nearest install line above, and the command, for every ``python -m vdmlib...`` of a page.

    Not ``torchrun ... -m vdmlib.train``, which is for machines with several GPUs: tests/small/test_training.py has runs
    of several processes.
    """
    extras, found = None, []
    for line in text.splitlines():
        if install := INSTALL.search(line):
            extras = tuple((install["extras"] or "").split(",")) if install["extras"] else ()
        if command := re.match(r"python -m (vdmlib\..*)", line.strip()):
            found.append((extras, command[1]))
    return found


def pages() -> list[str]:
    """README, chapters and the page for teachers; there the install line stands at the end, for students."""
    chapters = ["\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells) for path in notebooks()]
    teaching = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    [install] = [line for line in teaching.splitlines() if INSTALL.search(line)]
    return [(ROOT / "README.md").read_text(encoding="utf-8"), *chapters, f"{install}\n{teaching}"]


COMMANDS = [command for page in pages() for command in printed_commands(page)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return plain_environment.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python with the wheel and these extras; each made once."""
    made = {}

    def make(extras: tuple[str, ...] = ()) -> Path:
        if extras not in made:
            made[extras] = plain_environment.create(tmp_path_factory.mktemp("environment"), wheel, extras)
        return made[extras]

    return make


RESULTS = {  # For each command a file that it writes.
    "vdmlib.train": "checkpoint.pt",
    "vdmlib.sample": "video.gif",
    "vdmlib.grade": "grades.csv",
    "vdmlib.course.open_part": "leaderboard.csv",
}


def run(python: Path, command: str, folder: Path, **more: str) -> subprocess.CompletedProcess:
    """The command, as somebody types it in an empty folder, without a network."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hub")} | more
    arguments = [python, "-m", *shlex.split(command)]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_command_stands_under_an_install_line():
    assert len(COMMANDS) >= 10 and all(extras is not None for extras, _ in COMMANDS)
    assert {command.split()[0] for _, command in COMMANDS} == RESULTS.keys()


def test_nothing_but_what_is_declared_is_there(python, tmp_path):
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    names = "torch PIL vdmlib matplotlib diffusers imageio mlxtend pytest"
    done = subprocess.run([python(), "-c", code, *names.split()], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "['torch', 'PIL', 'vdmlib']", done.stderr


@pytest.mark.parametrize("extras, command", COMMANDS)
def test_a_printed_command_works_with_what_its_install_line_brings(extras, command, python, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "horse.png")
    shutil.copytree(ROOT / "course" / "assignments" / "1", tmp_path / "SUBMISSIONS" / "a_student")
    training = command.startswith("vdmlib.train")
    done = run(python(extras), command.split("#")[0] + (" --stop-after 3" if training else ""), tmp_path)
    if "--checkpoint" in command:  # Everything is there but the checkpoint, and that is what it says.
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "needs the package" not in done.stderr and "VideoCrafter/" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        made = [file.name for file in tmp_path.rglob("*")]
        assert RESULTS[command.split()[0]] in made


def test_with_the_extra_a_checkpoint_becomes_a_video(python, tmp_path):
    """What lies past the loader, too: text and image encoders, autoencoder, mp4."""
    Image.new("RGB", (64, 48)).save(tmp_path / "horse.png")
    checkpoint = tiny_checkpoint(tmp_path, "i2v")
    command = f'vdmlib.sample "a boat" --checkpoint {checkpoint.name} --kind i2v --device cpu --steps 2 --frames 2'
    command += " --width 64 --image horse.png"
    startup = str(ROOT / "tests" / "helpers" / "startup")  # For torchvision; it says why.
    done = run(python(("pipeline",)), command, tmp_path, PYTHONPATH=startup)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("video.mp4: 2 frames in ") and (tmp_path / "video.mp4").stat().st_size > 100


@pytest.mark.parametrize(
    "command, package, purpose, extra",
    [
        ("vdmlib.sample --output video.mp4", "imageio", "Writing an mp4", "pipeline"),
        ('vdmlib.sample "a boat" --checkpoint VideoCrafter/VideoCrafter2', "imageio", "Writing an mp4", "pipeline"),
        (
            'vdmlib.sample "a boat" --checkpoint VideoCrafter/VideoCrafter2 --output video.gif',
            "huggingface_hub", "Sampling from a released checkpoint", "pipeline",
        ),
    ],
)  # fmt: skip
def test_what_the_plain_library_lacks_is_named_in_one_sentence(command, package, purpose, extra, python, tmp_path):
    done = run(python(), command, tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{purpose} needs the package {package}, which cannot be imported")
    assert done.stderr.endswith(f": pip install 'vdmlib[{extra}]'.\n")

"""Every command in tools/ says what it does."""

import json
import runpy
import sys
from importlib import metadata
from pathlib import Path

import benchmark
import colab_environment
import lock
import pytest
import unet2d_ablations
from packaging.specifiers import SpecifierSet

TOOLS = Path(__file__).resolve().parents[2] / "tools"
COMMANDS = sorted(path for path in TOOLS.glob("*/*.py") if "argparse" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_a_command_explains_itself(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(command), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(command), run_name="__main__")
    assert stopped.value.code == 0
    first_line = capsys.readouterr().out.split("\n\n")[1].splitlines()[0]
    assert first_line in command.read_text(encoding="utf-8").replace("\n", " ")


def test_the_colab_environment_has_what_the_colab_cell_installs():
    assert colab_environment.extra() == "[book]"


def test_the_pinned_packages_install_on_every_python_from_3_11_on():
    lock_files = [lock.ROOT / "requirements.txt", lock.ROOT / "constraints.txt"]
    pinned = [requirement for path in lock_files for requirement in lock.requested(path)]
    for requirement in pinned:
        package = metadata.distribution(requirement.name)
        pythons = SpecifierSet(package.metadata.get("Requires-Python") or "")
        assert "3.11.0" in pythons and "3.13.0" in pythons, f"{requirement} needs Python {pythons}"


@pytest.mark.usefixtures("unchecked")  # Checks of shapes are slow on fake tensors.
def test_benchmark_counts_what_the_released_network_computes():
    """The released code computes 12.581 TFLOP, of which 0.06 are keys and values of the same tokens for each frame."""
    config = benchmark.vdmlib.UNet3DConfig.videocrafter2()
    once, in_a_step = (sum(benchmark.flops_of_forward(config, 16, 40, 64, cached=c).values()) for c in (False, True))
    assert 12.581e12 > once > in_a_step > 12.5e12
    keys_and_values = sum(2 * 77 * 1024 * 2 * c for c in 5 * [320] + 5 * [640] + 6 * [1280])
    assert once - in_a_step == keys_and_values


def test_benchmark_of_sampling_and_compiling_adds_up(monkeypatch, capsys, tmp_path):
    command = [
        "benchmark.py",
        "--config",
        "tiny",
        "--frames",
        "2",
        "--height",
        "8",
        "--width",
        "8",
        "--sampling",
        "--compile",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "numbers.json")])
    monkeypatch.setattr(benchmark, "machine_limits", lambda *_: {"matrix product": 2e9, "convolution": 1e9})
    monkeypatch.setattr(benchmark, "compile_network", lambda network: None)  # Compiling takes minutes.
    benchmark.main()
    numbers, printed = json.loads((tmp_path / "numbers.json").read_text()), capsys.readouterr().out
    flops, seconds = numbers["FLOP of a sampling step with guidance"], numbers["sampling step with guidance (s)"]
    assert numbers["sampling (FLOP/s)"] == pytest.approx(flops / seconds)
    assert numbers["sampling share of the machine's matrix product"] == pytest.approx(flops / seconds / 2e9)
    forward, compiled = numbers["forward pass (s)"], numbers["forward pass with torch.compile (s)"]
    assert numbers["gain of torch.compile"] == pytest.approx(forward / compiled)
    assert flops == pytest.approx(2 * numbers["FLOP of a forward pass"], rel=0.02) and "sampling (FLOP/s)" in printed


def test_the_ablations_of_chapter_2_are_those_that_are_stored(monkeypatch, capsys, tmp_path):
    stored = json.loads(unet2d_ablations.FILE.read_text(encoding="utf-8"))["runs"]
    assert list(stored) == list(unet2d_ablations.RUNS) and all(stored.values())
    lengths = {len(errors) for runs in stored.values() for errors in runs.values()}
    assert lengths == {len(unet2d_ablations.TIMES)}

    tiny = {"tiny": unet2d_ablations.Run((8,), steps=2), "tiny, noise": unet2d_ablations.Run((8,), True, 2, True)}
    monkeypatch.setattr(unet2d_ablations, "RUNS", tiny)
    monkeypatch.setattr(sys, "argv", ["unet2d_ablations.py", "--seeds", "3", "--file", str(tmp_path / "runs.json")])
    unet2d_ablations.main()
    first = (tmp_path / "runs.json").read_text(encoding="utf-8")
    assert [name for name, runs in json.loads(first)["runs"].items() if list(runs) == ["3"]] == list(tiny)
    assert len(capsys.readouterr().out.splitlines()) == 2
    unet2d_ablations.main()
    assert (tmp_path / "runs.json").read_text(encoding="utf-8") == first and not capsys.readouterr().out

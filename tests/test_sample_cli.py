"""``python -m vdmlib.sample``, and the self-check of a GPU machine at tiny size on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from synthetic_checkpoints import synthetic_weights, write

from vdmlib import Release, sample
from vdmlib.releases import RELEASES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command line")
    return {kind: write(folder / f"{kind}.ckpt", synthetic_weights(Release.tiny(kind))) for kind in ("t2v", "i2v")}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(RELEASES, "t2v", (Release.tiny("t2v"),))
    monkeypatch.setitem(RELEASES, "i2v", (Release.tiny("i2v"),))


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_checkpoint_to_file(kind, checkpoints, tiny, tmp_path, capsys):
    output = tmp_path / "video.gif"
    command = ["a cat", "--checkpoint", str(checkpoints[kind]), "--kind", kind, "--device", "cpu", "--steps", "2"]
    command += ["--guidance-in-turn", "--decode-frames", "1", "--sliced-attention", "--offload", "blocks"]
    command += ["--frames", "3", "--width", "64", "--output", str(output)]
    if kind == "i2v":
        Image.new("RGB", (30, 20), "green").save(tmp_path / "picture.png")
        command += ["--image", str(tmp_path / "picture.png")]
    sample.main(command)
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{output}: 3 frames in ")
    assert "DDIM: 100%" in printed.err  # The progress bar.
    with Image.open(output) as picture:
        assert (picture.n_frames, picture.size) == (3, (64, 64))


@pytest.mark.parametrize(
    "changes, expected",
    [
        (["--checkpoint", "missing.ckpt"], "There is no file missing.ckpt"),
        (["--checkpoint", "missing.ckpt", "--output", "video.avi"], "give a .mp4 or .gif file"),
        (["--checkpoint", "missing.ckpt", "--output", "nowhere/video.gif"], "in a folder that exists"),
        (["--checkpoint", "missing.ckpt", "--device", "abacus"], "device is 'abacus'"),
        (["--checkpoint", "missing.ckpt", "--decode-frames", "0"], "decode_frames is 0"),
    ],
)
def test_what_goes_wrong_is_one_line_and_no_traceback(changes, expected, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        sample.main(["a cat", "--device", "cpu", *changes])
    message = capsys.readouterr().err
    assert stopped.value.code == 1 and expected in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def run(*command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_help_comes_without_the_heavy_packages():
    check = "import sys, vdmlib.sample; print(vdmlib.sample.parser().format_help())"
    check += "; sys.exit('diffusers' in sys.modules or 'tokenizers' in sys.modules)"
    assert "--guidance-scale" in run("-c", check)


def test_gpu_check_runs_the_same_path_at_tiny_size(tmp_path):
    printed = run(
        "tools/gpu_check.py", "--device=cpu", "--steps=1", "--no-compile", f"--json={tmp_path / 'check.json'}"
    )
    results = json.loads((tmp_path / "check.json").read_text())
    assert results["passed"] is True and "all checks passed" in printed
    assert results["model"] == "tiny" and results["device"].startswith("CPU")
    rows = {row["options"]: row for row in results["rows"]}
    assert len(rows) == 6
    for name, row in rows.items():
        assert name in printed
        assert row["seconds per step"] > 0 and row["estimate / measured"] == pytest.approx(1, abs=0.15)
    assert 0 < results["half against float32"] < results["half against float32, allowed"]
    assert torch.tensor([row["difference"] for row in results["rows"]]).max() < 1e-2

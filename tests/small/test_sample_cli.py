"""``python -m vdmlib.sample``, and the self-check of a GPU machine at tiny size on the CPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import torch
from PIL import Image

from vdmlib import Release, sample, small
from vdmlib.released.releases import RELEASES
from vdmlib.released.synthetic import synthetic_weights, write
from vdmlib.small import data

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_the_small_model_is_the_default(suffix, tmp_path, capsys):
    output = tmp_path / f"video{suffix}"
    sample.main(["a blue 3 moving up slowly", "--steps", "2", "--fps", "16", "--output", str(output), "--device=cpu"])
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{output}: 8 frames in ") and "DDIM: 100%" in printed.err
    if suffix == ".gif":
        with Image.open(output) as picture:
            assert picture.size == (256, 256) and picture.info["duration"] == pytest.approx(1000 / 16, abs=3)


def test_every_prompt_that_the_help_shows_for_the_small_model_is_one_that_it_reads():
    prompts = re.findall(r'python -m vdmlib\.sample "([^"]+)"(?!.*--checkpoint)', sample.__doc__)
    assert len(prompts) == 2 and data.tokenize([*prompts, sample.EXAMPLE]).shape == (3, data.CAPTION_TOKENS)


def test_the_small_model_samples_as_its_card_says(monkeypatch, tmp_path):
    asked = {}

    def ddim(*_, **settings):
        asked.update(settings)
        raise ValueError("enough seen")

    monkeypatch.setattr(small.model, "sample_ddim", ddim)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        sample.main([])
    card, names = small.read_card("t2v"), {"steps": "sampling_steps", "guidance_scale": "guidance_scale"}
    assert {name: asked[name] for name in names} == {name: card[theirs] for name, theirs in names.items()}


@pytest.mark.parametrize(
    "changes, expected",
    [
        (["--frames", "4", "--offload", "networks"], "The small model does not know --frames, --offload"),
        (["--image", "horse.png"], "pass --kind i2v"),
        (["--fps", "0"], "fps is 0.0"),
        (["--steps", "30"], "The caption 'a cat' cannot be read"),
        (["--show-fps", "-1"], "show-fps is -1.0"),
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
    paths = os.pathsep.join((str(ROOT), os.environ["PYTHONPATH"]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_help_comes_without_the_heavy_packages():
    check = "import sys, vdmlib.sample; print(vdmlib.sample.parser().format_help())"
    check += "; sys.exit('diffusers' in sys.modules or 'open_clip' in sys.modules)"
    assert "--guidance-scale" in run("-c", check)


def test_gpu_check_runs_the_same_path_at_tiny_size(tmp_path):
    printed = run("tools/measure/gpu_check.py", "--device=cpu", "--steps=2", f"--json={tmp_path / 'check.json'}")
    results = json.loads((tmp_path / "check.json").read_text())
    assert results["passed"] is True and f"all {len(results['checks'])} checks passed" in printed
    assert results["model"] == "tiny" and results["device"].startswith("CPU")
    assert [row["file"] for row in results["loading"]] == [".safetensors", ".ckpt"]
    rows = {row["options"]: row for row in results["rows"]}
    assert len(rows) == 6
    for name, row in rows.items():
        assert name in printed
        assert {f"{name}: finite, and the same video", f"{name}: the estimate fits"} < results["checks"].keys()
        assert row["seconds per step"] > 0 and row["estimate / measured"] == pytest.approx(1, abs=0.15)
        assert row["difference"] < 1e-2
    assert 0 < results["half against float32"]["difference"] < results["half against float32"]["allowed"]
    assert results["compile"]["graphs"] == 1 and results["compile"]["difference"] < 1e-4


def test_gpu_check_fails_where_something_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--stages", "precision"])
    monkeypatch.setattr(gpu_check.Machine, "sample", lambda *_, **__: torch.zeros(1, 4, 3, 8, 8))
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 1 and "FAILED: half precision is close to float32" in capsys.readouterr().out

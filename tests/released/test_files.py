"""Files good and bad: what is found, downloaded and opened; of the rest one sentence, and nothing is executed."""

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vdmlib import UNet3D, UNet3DConfig
from vdmlib.files import CheckpointError, opened, read_checkpoint
from vdmlib.released.checkpoints import load_release
from vdmlib.released.downloads import find_checkpoint
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
    """As much of a model hub as a download needs.

    Attributes:
        content, etag: of the file. commit: of the repository.
        asked: from which byte on, for each time that the file was sent. breaks: so many answers break off near the end.
        stalls: an answer stops in the middle and waits. ranges: parts of files are sent.
        token: without it nothing is sent. elsewhere: the file lies on another server, which gets no token.
    """

    content, etag, commit, asked, breaks = b"", "", "", [], 0
    stalls, ranges, token, elsewhere = False, True, None, None

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool):
        known = "/resolve/" in self.path and "missing" not in self.path
        bearer, there = self.headers.get("Authorization"), self.path == "/elsewhere"
        if not (known or there) or (there and bearer):
            self.send_error(400 if there else 404)
        elif self.token and known and bearer != f"Bearer {self.token}":
            self.send_error(401)
        elif self.elsewhere and known:
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self._describe(size=0)
        else:
            self._send(body)

    def _describe(self, size: int):
        for name in ("ETag", "X-Linked-Etag"):
            self.send_header(name, f'"{self.etag}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("X-Linked-Size", str(len(self.content)))
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, body: bool):
        part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(part[1]) if part and self.ranges else 0
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self._describe(len(rest))
        if not body:
            return
        type(self).asked.append(start)
        if type(self).stalls:
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.connection.settimeout(60)
            self.connection.recv(1)  # Until the other side is gone.
        elif type(self).breaks:
            type(self).breaks -= 1
            self.wfile.write(rest[: len(rest) * 9 // 10])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    start = {"content": bytes(range(256)) * 2**17, "asked": [], "etag": "0123456789abcdef", "commit": "0" * 40}
    for name, value in {
        **start,
        "breaks": 0,
        "stalls": False,
        "ranges": True,
        "token": None,
        "elsewhere": None,
    }.items():
        monkeypatch.setattr(Hub, name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# In a process of its own: the hub's library reads its settings when it is imported.
DOWNLOAD = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from vdmlib.released.downloads import find_checkpoint
try:
    print(find_checkpoint(sys.argv[1]))
except Exception as error:
    print(type(error).__name__ + ":", error)
"""


def child(name: str, hub: str, cache: Path, before: str = "") -> subprocess.Popen:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"HF_TOKEN": Hub.token or "", "no_proxy": "127.0.0.1,localhost", "HF_HUB_OFFLINE": "0"}
    unset = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | settings
    command = [sys.executable, "-c", before + DOWNLOAD, name, json.dumps([str(Path(__file__).parents[2])])]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def download(name: str, hub: str, cache: Path, before: str = "") -> str:
    process = child(name, hub, cache, before)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return printed.strip()


def kill_in_the_middle(hub: str, cache: Path) -> int:
    """Begin a download and kill its process, which can tidy up nothing; how many bytes have arrived."""
    Hub.stalls = True
    process = child("owner/model", hub, cache)
    half = len(Hub.content) // 2
    deadline = time.monotonic() + 100
    while sum(part.stat().st_size for part in cache.rglob("*.part")) < half - 2**20:
        assert time.monotonic() < deadline and process.poll() is None, process.stderr
        time.sleep(0.05)
    process.kill()
    process.communicate()
    Hub.stalls = False
    (part,) = cache.rglob("*.part")
    assert part.name == f"{Hub.etag}.part"
    return part.stat().st_size


def half_of_it(cache: Path) -> int:
    """What such a process leaves behind."""
    part = cache / f"hub/models--owner--model/blobs/{Hub.etag}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.write_bytes(Hub.content[: len(Hub.content) // 2])


def test_a_download_that_was_killed_goes_on_where_it_stopped(hub, tmp_path):
    arrived = kill_in_the_middle(hub, tmp_path)
    path = download("owner/model", hub, tmp_path)
    assert Hub.asked == [0, arrived] and arrived > 0
    assert Path(path).read_bytes() == Hub.content and not list(tmp_path.rglob("*.part"))
    assert download("owner/model", hub, tmp_path) == path and len(Hub.asked) == 2


def test_a_connection_that_breaks_off_is_opened_again(hub, tmp_path):
    Hub.breaks = 2
    path = download("owner/model", hub, tmp_path)
    first, second, third = Hub.asked
    assert Path(path).read_bytes() == Hub.content and 0 == first < second < third


def test_a_file_that_changed_meanwhile_begins_anew(hub, tmp_path, monkeypatch):
    half_of_it(tmp_path)
    for name, value in {"content": Hub.content[::-1], "etag": "fedcba9876543210", "commit": "1" * 40}.items():
        monkeypatch.setattr(Hub, name, value)
    path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == Hub.content and Hub.asked == [0] and not list(tmp_path.rglob("*.part"))


def test_a_server_that_sends_no_parts_of_files_sends_all_of_it(hub, tmp_path):
    half_of_it(tmp_path)
    Hub.ranges = False
    path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == Hub.content and Hub.asked == [0]


def test_a_server_that_always_breaks_off_in_the_same_place_is_given_up(hub, tmp_path):
    Hub.ranges, Hub.breaks = False, 1000
    message = download("owner/model", hub, tmp_path)
    assert message.startswith("CheckpointError") and re.search(r"\(\d+ of 33554432 bytes have arrived\)", message)
    assert "what has already arrived is kept" in message and len(Hub.asked) == 2


def test_cache_is_shared_with_the_library_of_the_hub(hub, tmp_path):
    theirs = "from huggingface_hub import hf_hub_download as get\nprint(get('owner/model', 'model.ckpt'))\n"
    both = download("owner/model", hub, tmp_path / "a", before=theirs).split()
    assert both[0] == both[1] and len(Hub.asked) == 1
    ours = download("owner/model", hub, tmp_path / "b")
    assert download("owner/model", hub, tmp_path / "b", before=theirs).split() == [ours, ours] and len(Hub.asked) == 2


def test_a_private_file_is_sent_and_its_token_stays_with_the_hub(hub, tmp_path):
    Hub.token, Hub.elsewhere = "hf_secret", hub.replace("127.0.0.1", "localhost") + "/elsewhere"
    arrived = half_of_it(tmp_path)
    path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == Hub.content and Hub.asked == [arrived]
    Hub.elsewhere = None  # Now the hub sends the file itself.
    assert Path(download("owner/model", hub, tmp_path / "own")).read_bytes() == Hub.content
    without = "import os\ndel os.environ['HF_TOKEN']\n"
    assert "could not be downloaded" in download("owner/model", hub, tmp_path / "without", without)


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(hub, tmp_path):
    full = "import shutil\nshutil.disk_usage = lambda _: shutil._ntuple_diskusage(10**9, 99 * 10**7, 10**7)\n"
    message = download("owner/model", hub, tmp_path, before=full)
    assert message.startswith("CheckpointError: model.ckpt of owner/model does not fit on the disk: make room")
    assert "0.03 GB are to come, 0.01 GB are free" in message and "\n" not in message
    assert Hub.asked == []
    half_of_it(tmp_path)
    message = download("owner/model", hub, tmp_path, before=full)
    assert "0.02 GB are to come, 0.01 GB are free" in message and Hub.asked == []


FILLS = """
import errno, pathlib
opened = pathlib.Path.open

class Full:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        if self.file.tell() > 10**7:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.file.write(data)

def open_full(path, *mode, **options):
    file = opened(path, *mode, **options)
    return Full(file) if path.suffix == ".part" else file

pathlib.Path.open = open_full
"""


def test_a_disk_that_fills_up_meanwhile_is_one_sentence_and_what_arrived_is_kept(hub, tmp_path):
    message = download("owner/model", hub, tmp_path, before=FILLS)
    assert message.startswith("CheckpointError: model.ckpt of owner/model does not fit on the disk: make room")
    assert "\n" not in message and Hub.asked == [0]
    path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == Hub.content and Hub.asked[1] > 0


def test_failed_download_is_one_sentence(hub, tmp_path):
    message = download("owner/missing", hub, tmp_path)
    assert message.startswith("CheckpointError: model.ckpt could not be downloaded from owner/missing")
    assert "\n" not in message


def test_names_on_the_hub_and_paths_are_told_apart(tmp_path, monkeypatch):
    asked = []
    found = Path("x/model.ckpt")
    monkeypatch.setattr("vdmlib.released.downloads.download", lambda *given: asked.append(given) or found)
    assert find_checkpoint("VideoCrafter/VideoCrafter2") == Path("x/model.ckpt")
    assert asked == [("VideoCrafter/VideoCrafter2", "model.ckpt")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "folder").write_bytes(b"")
    for local in ("own/folder", "checkpoints/model.ckpt", "./model/file", "a/b/c"):
        assert find_checkpoint(local) == Path(local)
    assert len(asked) == 1

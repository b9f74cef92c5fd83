"""Files that are damaged, foreign or malicious, and downloads that break off: one sentence, nothing executed."""

import json
import os
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vdmlib import Release, VideoCrafterPipeline
from vdmlib.released.checkpoints import CheckpointError
from vdmlib.released.loading import find_checkpoint
from vdmlib.released.synthetic import synthetic_weights, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "model.ckpt", synthetic_weights(Release.tiny()))


def load(path, kind="t2v", **options):
    return VideoCrafterPipeline.from_checkpoint(path, kind, device="cpu", release=Release.tiny(kind), **options)


def one_sentence(error: Exception) -> str:
    message = str(error)
    assert "\n" not in message and 30 < len(message) < 700
    assert message.endswith((".", ".)", ")"))
    return message


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file(share, whole, tmp_path):
    data = whole.read_bytes()
    (tmp_path / "model.ckpt").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"model\.ckpt .*download it again") as caught:
        load(tmp_path / "model.ckpt")
    one_sentence(caught.value)


def test_damage_inside_the_weights_is_found_by_checksums(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 0x10
    path = tmp_path / "model.ckpt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"wrong checksum.*download it again") as caught:
        load(path)
    one_sentence(caught.value)
    load(path, verify=False)  # What it costs to do without.


class Malicious:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["torch", "torch before 1.6", "bare pickle", "inside state_dict"])
def test_code_in_a_file_is_not_executed(form, tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "model.ckpt"
    bomb = Malicious(marker)
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        content = {"state_dict": synthetic_weights(Release.tiny()) | {"x": bomb}} if "state_dict" in form else bomb
        torch.save(content, path, _use_new_zipfile_serialization=form != "torch before 1.6")
    with pytest.raises(CheckpointError, match=r"not opened|no checkpoint|damaged") as caught:
        load(path)
    one_sentence(caught.value)
    assert not marker.exists()


def without(weights, name):
    return {n: w for n, w in weights.items() if n != name}


NAME = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
WRONG = {
    "nothing": (lambda w: {}, "no checkpoint of weights"),
    "settings": (lambda w: {"lr": 0.1, "betas": [1, 2]}, "no checkpoint of weights"),
    "another model": (lambda w: {"layer.weight": torch.zeros(3)}, r"missing .*1 foreign \(layer\.weight\)"),
    "a missing weight": (lambda w: without(w, NAME), rf"1 missing \({NAME}\)"),
    "one weight more": (lambda w: w | {"model_ema.decay": torch.zeros(())}, r"1 foreign \(model_ema\.decay\)"),
    "a wrong shape": (lambda w: w | {NAME: w[NAME][:5]}, rf"wrong shape \({NAME} is \(5, 24\), needs \(72, 24\)\)"),
    "whole numbers": (lambda w: w | {NAME: w[NAME].long()}, "1 without fractions"),
    "the other kind": (lambda w: synthetic_weights(Release.tiny("i2v")), "looks like kind 'i2v', so pass that"),
    "the U-Net alone": (lambda w: {n: v for n, v in w.items() if n.startswith("model.")}, "missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_foreign_content(case, whole, tmp_path):
    make, expected = WRONG[case]
    path = write(tmp_path / "model.ckpt", make(synthetic_weights(Release.tiny())))
    with pytest.raises(CheckpointError, match=expected) as caught:
        load(path)
    one_sentence(caught.value)


def test_schedule_buffers_and_unused_weights_may_be_absent(tmp_path):
    weights = synthetic_weights(Release.tiny())
    kept = {n: w for n, w in weights.items() if n not in ("scale_arr", "betas") and "text_projection" not in n}
    assert len(kept) == len(weights) - 3
    save_file(kept, tmp_path / "model.safetensors")
    load(tmp_path / "model.safetensors")
    load(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="download it again"):
        load(tmp_path)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds 0 checkpoints"):
        load(tmp_path)
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match="holds 2 checkpoints"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.ckpt"):
        load(tmp_path / "missing.ckpt")


def test_checksums_are_those_of_the_zip_format(whole):
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None and len(archive.namelist()) > 300


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
def hub(whole):
    Hub.content, Hub.asked, Hub.breaks = whole.read_bytes(), [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# In a process of its own: the hub's library reads its settings when it is imported.
DOWNLOAD = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from vdmlib.released.loading import find_checkpoint
try:
    print(find_checkpoint(sys.argv[1]))
except Exception as error:
    print(type(error).__name__ + ":", error)
"""


def download(name: str, hub: str, cache: Path) -> str:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = os.environ | settings | {"no_proxy": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", DOWNLOAD, name, json.dumps([root])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_interrupted_download_goes_on_where_it_stopped(hub, whole, tmp_path):
    Hub.breaks = 1
    path = download("owner/model", hub, tmp_path)
    if path.startswith("CheckpointError"):  # Some versions of the hub's library leave trying again to the user.
        assert "what has already arrived is kept" in path
        path = download("owner/model", hub, tmp_path)
    assert Path(path).read_bytes() == whole.read_bytes()
    assert len(Hub.asked) == 2 and Hub.asked[0] == 0 < Hub.asked[1]
    assert download("owner/model", hub, tmp_path) == path and len(Hub.asked) == 2


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

"""Where a checkpoint is: a path, or the Hugging Face Hub, asked in as many attempts as it takes (chapter 11)."""

import errno
import os
import re
import shutil
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from tqdm import tqdm

from ..checks import check_path, shown_path
from ..files import SUFFIXES, CheckpointError, first_sentence
from ..media import require

_BYTES_AT_ONCE = 2**20
_PATIENCE = 30  # Seconds without a byte.


def find_checkpoint(path_or_hub_id: str | Path) -> Path:
    """The file itself: a path, the checkpoint in a folder, or a download from the Hugging Face Hub.

    A download that was interrupted goes on where it stopped, in the next process too; a finished one is used again.
    None begins where the disk has less room than the file still takes.

    Raises:
        FileNotFoundError: a folder that does not hold exactly one checkpoint.
        CheckpointError: the download failed, or would not fit on the disk.
    """
    path = check_path("path_or_hub_id", path_or_hub_id)
    if os.path.isdir(path):
        found = sorted(p for suffix in SUFFIXES for p in path.glob(f"*{suffix}"))
        if len(found) != 1:
            raise FileNotFoundError(
                f"The folder {shown_path(path)} holds {len(found)} checkpoints, but exactly one is needed: pass the "
                f"file's path."
            )
        return found[0]
    hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path_or_hub_id))
    if os.path.exists(path) or not hub_id or path.suffix in SUFFIXES:
        return path
    require("huggingface_hub")
    return _downloaded(str(path_or_hub_id), "model.ckpt")


def _downloaded(hub_id: str, filename: str) -> Path:
    try:
        return download(hub_id, filename)
    except Exception as error:  # The Hub's library lets the errors of its network libraries through.
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise CheckpointError(
                f"{filename} of {hub_id} does not fit on the disk: make room and run again, or name a folder with more "
                f"in the environment variable HF_HOME before Python starts. ({error.strerror})"
            ) from None
        raise CheckpointError(
            f"{filename} could not be downloaded from {hub_id} on the Hugging Face Hub: check the name, the network "
            f"and the room on the disk and run again, what has already arrived is kept. ({first_sentence(error)})"
        ) from error


def download(hub_id: str, filename: str) -> Path:
    """The file, out of the cache of the Hub's own library or fetched into it.

    That library throws away what has arrived when a download is cut off. Here the bytes wait in ``blobs/<etag>.part``,
    whatever happens to this process, and the next call asks the server for the rest only. A file that has changed
    meanwhile has another etag, and so begins anew; so does one whose server sends no parts of files.

    Raises:
        OSError: with ``errno.ENOSPC`` where the disk has too little room, before anything is fetched or meanwhile.
        Exception: whatever the Hub's library and the network raise.
    """
    hub = require("huggingface_hub")
    cached = hub.try_to_load_from_cache(hub_id, filename)
    if isinstance(cached, str):
        return Path(cached)
    url = hub.hf_hub_url(hub_id, filename)
    remote = hub.get_hf_file_metadata(url)
    folder = Path(hub.constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    whole = folder / "snapshots" / remote.commit_hash / filename
    part = folder / "blobs" / (re.sub(r"\W", "", remote.etag) + ".part")
    for path in (whole, part, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with hub.utils.WeakFileLock(part.with_suffix(".lock")):
        if not whole.exists():
            _complete(part, _request(hub, url, remote.location), remote.size)
            part.replace(whole)
        (folder / "refs" / "main").write_text(remote.commit_hash)  # Where the Hub's library looks first.
    return whole


def _request(hub: ModuleType, url: str, location: str) -> Request:
    """For the place where the file lies, which is often another server. That one must not see the user's token."""
    headers = {name.lower(): value for name, value in hub.utils.build_hf_headers().items()}
    token = headers.pop("authorization", None)
    request = Request(location, headers=headers)
    if token is not None and urlparse(location).netloc == urlparse(url).netloc:
        request.add_unredirected_header("Authorization", token)
    return request


def _complete(part: Path, request: Request, size: int) -> None:
    for other in part.parent.glob("*.part"):
        if other != part or other.stat().st_size > size:
            other.unlink()  # Of a version that is no longer offered, or damaged.
    before, have = -1, _size(part)
    free = shutil.disk_usage(part.parent).free
    if free < size - have:
        raise OSError(errno.ENOSPC, f"{(size - have) / 1e9:.2f} GB are to come, {free / 1e9:.2f} GB are free")
    while before < have < size:  # A connection that breaks off is opened again while each brings something.
        with suppress(TimeoutError, ConnectionError, HTTPException):
            _fetch(part, request, have, size)
        before, have = have, _size(part)
    if have != size:
        raise OSError(f"{have} of {size} bytes have arrived")


def _fetch(part: Path, request: Request, have: int, size: int) -> None:
    """Append what is missing; where the server sends the file from its start, begin anew."""
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urlopen(request, timeout=_PATIENCE) as answer:
        goes_on, sent = answer.status == 206, answer.headers["Content-Range"]
        if goes_on and sent != f"bytes {have}-{size - 1}/{size}":
            raise OSError(f"bytes {have} to {size - 1} were asked for, but the server sent {sent}")
        start = have if goes_on else 0
        bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc="download")
        with bar, part.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(_BYTES_AT_ONCE):
                file.write(piece)
                bar.update(len(piece))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

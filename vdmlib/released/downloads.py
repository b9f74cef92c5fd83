"""A large file from the Hugging Face Hub, in as many attempts as it takes (chapter 11)."""

import errno
import re
import shutil
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from tqdm import tqdm

from ..media import require

_BYTES_AT_ONCE = 2**20
_PATIENCE = 30  # Seconds without a byte.


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

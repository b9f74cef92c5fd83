"""Checkpoint files that nobody vouches for: looked through, mapped into memory, never executed (chapter 8)."""

import ctypes
import json
import mmap
import os
import pickle
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor

from .checks import check_path, shown_path

SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth")
_OF_TENSORS = ("torch.", "collections.", "_codecs.")
_PICKLES_OF_OLD_FILES = 4  # PyTorch before 1.6 wrote a magic number, its version, the machine, and the content.


class CheckpointError(ValueError):
    """A file or state dict that cannot become this network; the message says what is wrong and what to do."""


class _NotTensors(Exception):
    """A pickle asks for something else than tensors; the argument is its name."""


@dataclass(frozen=True)
class CheckpointFile:
    """What is in a file. ``mapped``: its tensors lie in the file itself and are read when they are first used."""

    name: str
    content: dict[str, Any]
    mapped: bool

    def let_go(self, tensor: Tensor) -> None:
        """Give the memory of a tensor that was read back to the system, which reads it again if it must.

        Else every page of a mapped file that was read once counts as this process's, until the file is closed.
        """
        if not self.mapped or not hasattr(mmap, "MADV_DONTNEED"):
            return
        storage, page = tensor.untyped_storage(), mmap.PAGESIZE
        end = min(tensor.data_ptr() + tensor.nbytes, storage.data_ptr() + storage.nbytes()) // page * page
        start = -(-tensor.data_ptr() // page) * page
        if start < end:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a ``.safetensors``, ``.ckpt`` or ``.pt`` file, mapped into memory; code in it is never run.

    The first bytes tell which of them it is, so a ``.ckpt`` may hold either kind.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, truncated, not a checkpoint, or a pickle of anything but tensors.
    """
    with opened(path) as file:
        return file.content


@contextmanager
def opened(path: str | Path, verify: bool = False) -> Iterator[CheckpointFile]:
    """A checkpoint file, looked through and mapped; with ``verify`` its checksums, where it has any, are compared.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`read_checkpoint`; also where the file changes meanwhile.
    """
    path = check_path("path", path)
    if not os.path.isfile(path):  # Unlike path.is_file(), also of names that no file can have.
        raise FileNotFoundError(
            f"There is no file {shown_path(path)}: download the checkpoint first, or correct the path."
        )
    before = _state(path)
    yield _read(path, verify)
    if _state(path) != before:
        raise CheckpointError(
            f"{shown_path(path.name)} was changed while it was read: wait until it is written whole, and load it again."
        )


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat() if path.exists() else None
    return () if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _read(path: Path, verify: bool) -> CheckpointFile:
    name = shown_path(path.name)
    with path.open("rb") as file:
        start = file.read(16)
    readers = {
        _read_safetensors: start[8:9] == b"{",
        _read_archive: start.startswith(b"PK"),
        _read_old_pickle: start.startswith(b"\x80"),
    }
    reader = next((reader for reader, fits in readers.items() if fits), None)
    if reader is None:
        raise CheckpointError(
            f"{name} is damaged or not a checkpoint (it begins with {start!r}): download it again, and the file "
            f"itself, not a web page about it."
        )
    try:
        content = reader(path, verify)
    except Exception as error:  # A damaged file can make the readers fail in any way.
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, _NotTensors) or (isinstance(error, pickle.UnpicklingError) and asked):
            raise CheckpointError(
                f"{name} holds Python objects other than tensors ({asked[1] if asked else error}) and was not "
                f"opened, since such a file can run any code: get the weights from the official source, or as "
                f".safetensors."
            ) from None
        raise CheckpointError(
            f"{name} is damaged or truncated: download it again and compare its size. ({first_sentence(error)})"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{name} holds a {type(content).__name__}, not a dictionary of tensors: pass a checkpoint file."
        )
    return CheckpointFile(name, dict(content), mapped=reader is not _read_old_pickle)


def first_sentence(error: Exception) -> str:
    """What somebody else's error says first."""
    first = (str(error).strip().splitlines() or [""])[0].split(". ")[0]
    return first[:200] or type(error).__name__


def _read_safetensors(path: Path, verify: bool) -> dict[str, Tensor]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        refuse_doubled_names(file.read(length))
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, the file is no mapping


def refuse_doubled_names(header: bytes) -> None:
    """Which of two tensors of one name a ``.safetensors`` file means, its header leaves open."""
    json.loads(header, object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_doubles([name for name, _ in pairs])
    return dict(pairs)


def _refuse_doubles(names: list[str]) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{doubled[0]} is there twice")


def _read_archive(path: Path, verify: bool) -> Any:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _refuse_doubles([member.filename for member in members])
        content = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(content) != 1 or any(member.filename.endswith("/constants.pkl") for member in members):
            raise ValueError("it is an archive of something else")  # Compiled modules have constants.
        # What PyTorch writes is not compressed. What is could become any size, and cannot be mapped.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its records are compressed")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its records are larger than the file")
        with archive.open(content[0]) as stream:
            _look_through(stream, size)
        if verify and (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} has a wrong checksum")
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _read_old_pickle(path: Path, verify: bool) -> Any:
    size = path.stat().st_size
    # Read through a map: a file would set aside whatever length a string in it claims to have.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        magic, asked = _look_through(stream, size)
        if magic != torch.serialization.MAGIC_NUMBER:
            raise _NotTensors(next((n for n in asked if not n.startswith(_OF_TENSORS)), "a bare pickle"))
        for _ in range(_PICKLES_OF_OLD_FILES - 1):
            _look_through(stream, size)
        stream.seek(0)
        return torch.load(cast(Any, stream), map_location="cpu", weights_only=True)


def _look_through(stream: Any, size: int) -> tuple[int, list[str]]:
    """Read one pickle without executing it; the last whole number in it, and what it imports.

    PyTorch itself refuses all that would run code. Refused here is what would take more memory than the file has
    bytes: a storage of too many numbers, and empty bytes of any length.
    """
    number, asked = 0, []
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in ("BININT", "BININT1", "BININT2", "LONG1"):
            number = int(argument or 0)
        elif operation.name == "GLOBAL":
            asked.append(str(argument).replace(" ", "."))
        elif operation.name == "BINPERSID" and number > size:  # A storage's description ends with its length.
            raise ValueError(f"a storage of {number} numbers in a file of {size} bytes")
    if any(name.endswith(".bytearray") for name in asked):
        raise _NotTensors("bytearray")
    return number, asked

"""What students hand in: notebooks, zips and folders, found and read whatever state they are in."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MOST_BYTES, MOST_FILES = 100_000_000, 2000  # of one submission, unpacked
ADAPTERS = "adapters.py"


@dataclass(frozen=True)
class Submission:
    """Something handed in, read into memory.

    Attributes:
        name: whose it is: the name of the file or folder, with its ending where two would have one name.
        source: where it came from, relative to the folder of submissions.
        files: path → content.
        fault: why it cannot be graded, or empty.
    """

    name: str
    source: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    fault: str = ""

    @property
    def hash(self) -> str:
        """Of all that was handed in."""
        digest = hashlib.sha256(self.fault.encode())
        for path, content in sorted(self.files.items()):
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


@dataclass(frozen=True)
class Program:
    """What is executed: the cells, one by one, beside the files they may import; or a fault and no cells."""

    cells: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    fault: str = ""


def find(folder: str | Path, but: Path | None = None, as_one: bool = False) -> list[Submission]:
    """Every notebook, zip and folder in a folder but one, or in a zip of a whole class, or the one that this is.

    Args:
        folder: of the submissions; or a zip, a notebook, a folder with ``adapters.py``.
        but: what in it is no submission.
        as_one: all of it is one student's, however many notebooks there are.

    Raises:
        FileNotFoundError: there is nothing.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: pass the folder of the submissions.")
    if as_one:
        return [_read(folder, folder.name if folder.is_dir() else folder.stem)]
    if zipfile.is_zipfile(folder) and (whole := _class_in(folder)):
        return whole
    single = folder.is_file() or (folder / ADAPTERS).exists()
    paths = [folder] if single else sorted(path for path in folder.iterdir() if _counts(path) and path != but)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no notebook, zip or folder: pass the folder of the submissions.")
    names = _names([path.name if path.is_dir() else path.stem for path in paths], [path.name for path in paths])
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def program(submission: Submission, parts: Iterable[str]) -> Program:
    """What to execute of a submission: its ``adapters.py``, or of its notebooks that with most of the parts."""
    if submission.fault:
        return Program(fault=submission.fault)
    files = submission.files
    for path in sorted(files, key=lambda path: path.count("/")):
        if PurePosixPath(path).name == ADAPTERS:
            above = path.removesuffix(ADAPTERS)
            beside = {name.removeprefix(above): data for name, data in files.items() if name.startswith(above)}
            return Program((text(files[path]),), beside)
    notebooks = {path: _cells(data) for path, data in files.items() if path.lower().endswith(".ipynb")}
    readable = {path: cells for path, cells in notebooks.items() if cells is not None}
    if not readable:
        fault = "the notebook cannot be read" if notebooks else f"it holds neither a notebook nor {ADAPTERS}"
        return Program(fault=f"{fault}: download it again and hand it in once more.")

    def written(path: str) -> tuple[int, int, str]:
        source = "\n".join(readable[path] or ())
        defined = sum(bool(re.search(rf"^\s*(def|class)\s+{name}\b", source, re.M)) for name in parts)
        return -defined, source.count("NotImplementedError"), path  # of two with all parts, that with fewer stubs

    return Program(tuple(readable[min(readable, key=written)] or ()), files)


def text(data: bytes) -> str:
    """Text in whatever encoding an editor left it, with plain line ends."""
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    return ""


def _counts(path: Path) -> bool:
    if path.name.startswith((".", "__")) or path.is_symlink():
        return False
    return path.is_dir() or path.suffix.lower() in (".ipynb", ".zip")


def _names(short: list[str], long: list[str]) -> list[str]:
    """The short names, and the long ones where two short ones would be one."""
    folded = [name.casefold() for name in short]
    return [b if folded.count(a.casefold()) > 1 else a for a, b in zip(short, long, strict=True)]


def _class_in(path: Path) -> list[Submission]:
    """What a whole class has handed in, as Moodle, Canvas, Gradescope or a drive packs it; nothing for one student's.

    It is a class's if at least two of its folders, notebooks and zips, on the first level that has several, can be
    graded; a student's has its ``adapters.py`` there.
    """
    with zipfile.ZipFile(path) as archive:
        files = [(PurePosixPath(_path_of(info)).parts, info) for info in archive.infolist() if _is_a_file(info)]
        while len({parts[0] for parts, _ in files}) == 1 and all(len(parts) > 1 for parts, _ in files):
            files = [(parts[1:], info) for parts, info in files]  # the folder that holds them all
        groups: dict[str, list[tuple[str, zipfile.ZipInfo]]] = {}
        for (first, *rest), info in files:
            groups.setdefault(first, []).append(("/".join(rest) or first, info))
        gradable = [name for name, found in groups.items() if any(_is_gradable(path) for path, _ in found)]
        if len(gradable) < 2 or ADAPTERS in groups:
            return []
        long = [name for name in groups if name in gradable or len(groups[name]) > 1]
        names = _names([re.sub(r"\.(ipynb|zip)$", "", name, flags=re.I) for name in long], long)
        return [_read_group(archive, groups[a], a, name) for a, name in zip(long, names, strict=True)]


def _is_gradable(path: str) -> bool:
    return path.lower().endswith((".ipynb", ".zip")) or PurePosixPath(path).name == ADAPTERS


def _read_group(
    archive: zipfile.ZipFile, files: list[tuple[str, zipfile.ZipInfo]], source: str, name: str
) -> Submission:
    try:
        return Submission(name, source, _opened(_extract(archive, files)))
    except Exception as error:
        return Submission(name, source, fault=f"it cannot be read ({type(error).__name__}): hand it in once more.")


def _read(path: Path, name: str) -> Submission:
    try:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink()]
            inside = [p for p in inside if _wanted(p.relative_to(path).as_posix())]
            if len(inside) > MOST_FILES or sum(p.stat().st_size for p in inside) > MOST_BYTES:
                return Submission(name, path.name, fault="it is too large: hand in your own files only.")
            files = {p.relative_to(path).as_posix(): p.read_bytes() for p in inside}
            return Submission(name, path.name, _opened(files))
        if path.stat().st_size > MOST_BYTES:
            return Submission(name, path.name, fault="it is too large: clear the outputs and hand it in once more.")
        return Submission(name, path.name, _opened({path.name: path.read_bytes()}))
    except Exception as error:  # A broken zip raises whatever it likes.
        return Submission(name, path.name, fault=f"it cannot be read ({type(error).__name__}): hand it in once more.")


def _wanted(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and not any(part.startswith((".", "__", "/")) for part in parts[:-1])


def _path_of(info: zipfile.ZipInfo) -> str:
    return info.filename.replace("\\", "/")


def _is_a_file(info: zipfile.ZipInfo) -> bool:
    """One that a submission may have: no folder, no link, none that would lie elsewhere."""
    is_link = info.external_attr >> 28 == 0o12
    return not info.is_dir() and not is_link and _wanted(_path_of(info))


def _extract(archive: zipfile.ZipFile, inside: Iterable[tuple[str, zipfile.ZipInfo]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MOST_BYTES
    for path, info in inside:
        if path in files:
            raise ValueError("two files have one name")
        with archive.open(info) as file:
            files[path] = file.read(left + 1)  # what a zip says of its own size need not be true
        left -= len(files[path])
        if left < 0 or len(files) > MOST_FILES:
            raise ValueError("too large")
    return files


def _opened(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, or what the only zip among them holds if nothing else can be graded."""
    gradable = [path for path in files if _is_gradable(path)]
    if len(gradable) != 1 or not gradable[0].lower().endswith(".zip"):
        return files
    with zipfile.ZipFile(io.BytesIO(files[gradable[0]])) as archive:
        return _extract(archive, [(_path_of(info), info) for info in archive.infolist() if _is_a_file(info)])


def _cells(data: bytes) -> list[str] | None:
    """The code cells, without IPython's commands; ``None`` for what is no notebook."""
    try:
        notebook = json.loads(text(data))
        cells = notebook.get("cells") or [c for sheet in notebook.get("worksheets", ()) for c in sheet["cells"]]
        sources = [c.get("source", c.get("input", "")) for c in cells if c.get("cell_type") == "code"]
        return [_python("".join(source)) for source in sources]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None


def _python(cell: str) -> str:
    cell = cell.replace("\r\n", "\n")
    if cell.lstrip().startswith("%%") and not re.match(r"\s*%%(time|capture)", cell):
        return ""  # in another language
    return re.sub(r"^([ \t]*)[%!].*", r"\1pass", cell, flags=re.MULTILINE)

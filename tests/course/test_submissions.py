"""A zip of a whole class, as course platforms pack it, is as many submissions; what is not safe in it is left out."""

import io
import json
import warnings
import zipfile

import pytest

from vdmlib.course import submissions


def notebook(word: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": f"said = '{word}'"}]}).encode()


def packed(files: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two files of one name
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return file.getvalue()


def found(tmp_path, files) -> dict[str, str]:
    """Name → the first cell, or the fault."""
    (tmp_path / "class.zip").write_bytes(packed(files))
    handed_in = submissions.find(tmp_path / "class.zip")
    programs = [submissions.program(one, ["part"]) for one in handed_in]
    return {one.name: p.fault or p.cells[0] for one, p in zip(handed_in, programs, strict=True)}


ADA, BOB = "said = 'ada'", "said = 'bob'"
LAYOUTS = {
    "Moodle, in folders": (
        {
            "Ada_1_assignsubmission_file_/a.ipynb": notebook("ada"),
            "Bob_2_assignsubmission_file_/a.ipynb": notebook("bob"),
        },
        {"Ada_1_assignsubmission_file_": ADA, "Bob_2_assignsubmission_file_": BOB},
    ),
    "Canvas, flat": (
        {"ada_1_11_work.ipynb": notebook("ada"), "bob_LATE_2_12_work.zip": packed({"b/b.ipynb": notebook("bob")})},
        {"ada_1_11_work": ADA, "bob_LATE_2_12_work": BOB},
    ),
    "Gradescope, below a folder of its own": (
        {
            "assignment_7_export/submission_metadata.yml": b":x:",
            "assignment_7_export/submission_1/a.ipynb": notebook("ada"),
            "assignment_7_export/submission_2/mine.zip": packed({"adapters.py": BOB.encode(), "mine.py": b""}),
        },
        {"submission_1": ADA, "submission_2": BOB},
    ),
    "two with one name": (
        {"a/a.ipynb": notebook("ada"), "A.ipynb": notebook("bob"), "__MACOSX/._a": b""},
        {"a": ADA, "A.ipynb": BOB},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_is_taken_apart(layout, tmp_path):
    files, wanted = LAYOUTS[layout]
    assert found(tmp_path, files) == wanted


@pytest.mark.parametrize(
    "files",
    [
        {"work.ipynb": notebook("ada"), "data/x.txt": b"", "src/mine.py": b""},
        {"work/adapters.py": ADA.encode(), "work/mine.py": b"", "work/try.ipynb": notebook("x"), "work/b/c.ipynb": b""},
    ],
)
def test_the_zip_of_one_student_is_one(files, tmp_path):
    assert found(tmp_path, files) == {"class": ADA}


def test_what_is_not_safe_is_left_out_or_said(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_BYTES", 100_000)
    link = zipfile.ZipInfo("ada/secret.ipynb")
    link.external_attr = 0o120777 << 16
    files = [
        ("ada/a.ipynb", notebook("ada")),
        (link, b"/etc/passwd"),
        ("ada/../../escaped.ipynb", notebook("escaped")),
        ("/absolute.ipynb", notebook("absolute")),
        ("..\\windows.ipynb", notebook("windows")),
        ("bob/bomb.ipynb", b" " * 10_000_000),
        ("cyd/twice.ipynb", notebook("1")),
        ("cyd/twice.ipynb", notebook("2")),
        ("dan/inner.zip", packed({"bomb.ipynb": b" " * 10_000_000})),
        ("eve/torn.zip", b"PK and no more"),
    ]
    said = found(tmp_path, files)
    assert set(said) == {"ada", "bob", "cyd", "dan", "eve"} and said["ada"] == ADA
    assert all(said[name].startswith("it cannot be read") for name in ("bob", "cyd", "dan", "eve")), said
    [ada] = [one for one in submissions.find(tmp_path / "class.zip") if one.name == "ada"]
    assert list(ada.files) == ["a.ipynb"]

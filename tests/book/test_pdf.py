"""The book on paper: nothing is cut, nothing is missing, and every sheet has its number."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pdf
import pytest

SITE = Path(os.environ.get("BOOK_SITE", pdf.SITE))


def test_the_file_has_every_page_of_the_book():
    assert pdf.pages()[:2] == ["book/intro", "book/01_latent_diffusion"]
    assert all(list(pdf.ROOT.glob(f"{page}.*")) for page in pdf.pages())


def test_the_front_page_offers_the_file():
    assert pdf.public_address() + pdf.PDF.name in (pdf.ROOT / "book/intro.md").read_text(encoding="utf-8")
    assert pdf.PDF.parent == pdf.SITE  # what is published


def need_chromium() -> None:
    if pdf.CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed; .ci/run installs what is needed", pytrace=False)
        pytest.skip("Chromium is not installed, so no page was printed")


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A chapter with a slider, animations and folded code, and three short pages, in one file."""
    need_chromium()
    from pypdf import PdfReader

    # A process of its own: the other tests' browser is still open in this one, and Playwright allows one at a time.
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    pages = ["01_latent_diffusion", "shapes", "notation", "glossary"]
    words = [*(f"book/{page}" for page in pages), "--out", target, "--site", SITE]
    done = subprocess.run([sys.executable, pdf.__file__, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reader = PdfReader(target)
    assert len(reader.pages) > 10 and f" {len(reader.pages)} pages" in done.stdout
    return reader, [re.sub(r"\s+", " ", page.extract_text()) for page in reader.pages], done.stderr


@pytest.mark.browser
@pytest.mark.xdist_group("pdf")
def test_a_printed_page_is_whole(printed):
    reader, texts, wide = printed
    assert "too wide" not in wide
    starts = {entry.title: reader.get_destination_page_number(entry) for entry in top(reader)}
    assert list(starts) == ["Latent diffusion", "Shapes and formulas", "Notation", "Glossary"]
    assert starts["Notation"] - starts["Shapes and formulas"] == 2  # to print and take along
    assert "A video model in three parts" in texts[0]
    chapter = " ".join(texts[: starts["Shapes and formulas"]])
    for part in (
        "Check yourself",
        "Further reading",
        "Solution to Exercise 4",
        "def check_rotation",
    ):  # the last is folded
        assert part in chapter
    assert "Letters are few and ideas are many" in texts[starts["Notation"]]
    last_row = (pdf.ROOT / "book/notation.md").read_text(encoding="utf-8").splitlines()[-1]
    assert last_row.split(" | ")[1] in texts[starts["Glossary"] - 1]
    assert "zero initialization" in texts[-1]


@pytest.mark.browser
@pytest.mark.xdist_group("pdf")
def test_sheets_are_numbered_and_links_lead_on(printed):
    reader, texts, _ = printed
    assert all(re.search(rf"\b{number}\s*$", text) for number, text in enumerate(texts, 1))
    notes = [note.get_object() for page in reader.pages for note in page.get("/Annots", [])]
    places = [note["/Dest"] for note in notes if "/Dest" in note]
    assert all(isinstance(place, list) for place in places)  # A name may stand for places of two chapters.
    glossary = reader.get_destination_page_number(top(reader)[-1])
    # Words of the glossary are linked: not all to its first sheet, and not all to the top of a sheet.
    sheets = {reader.pages.index(place[0].get_object()): place[3] for place in places if len(place) == 5}
    assert sum(sheet >= glossary for sheet in sheets) > 2
    assert len({height for sheet, height in sheets.items() if sheet >= glossary}) > 2
    assert not any("file:" in str(note.get("/A", "")) for note in notes)


@pytest.mark.browser
@pytest.mark.xdist_group("pdf")
def test_what_is_too_wide_for_the_paper_is_an_error(tmp_path):
    need_chromium()
    for name, width in [("fits", 300), ("wide", 3000)]:
        page = tmp_path / f"{name}.html"
        page.write_text(f"<article><h1>A page</h1><div style='width: {width}px'>some text</div></article>")
        words = [name, "--out", str(tmp_path / "book.pdf"), "--site", str(tmp_path)]
        done = subprocess.run([sys.executable, pdf.__file__, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, "too wide" in done.stderr) == ((1, True) if name == "wide" else (0, False)), (
            done.stderr
        )


def top(reader) -> list:
    """The bookmarks of the chapters."""
    return [entry for entry in reader.outline if not isinstance(entry, list)]

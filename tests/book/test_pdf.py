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


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A chapter with a slider and animations, and two short pages, in one file."""
    if pdf.CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed; .ci/run installs what is needed", pytrace=False)
        pytest.skip("Chromium is not installed, so no page was printed")
    from pypdf import PdfReader

    # A process of its own: the other tests' browser is still open in this one, and Playwright allows one at a time.
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    words = ["book/01_latent_diffusion", "book/shapes", "book/notation", "--out", target, "--site", SITE]
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
    assert list(starts) == ["Latent diffusion", "Shapes and formulas", "Notation"]
    assert starts["Notation"] - starts["Shapes and formulas"] == 2  # to print and take along
    assert "A video model in three parts" in texts[0]
    chapter = " ".join(texts[: starts["Shapes and formulas"]])
    for part in ("Check yourself", "Further reading", "Solution to Exercise 4"):
        assert part in chapter
    assert "Letters are few and ideas are many" in texts[starts["Notation"]]
    assert "fresh noise" in texts[-1]  # the last row


@pytest.mark.browser
@pytest.mark.xdist_group("pdf")
def test_sheets_are_numbered_and_links_lead_on(printed):
    reader, texts, _ = printed
    assert all(re.search(rf"\b{number}\s*$", text) for number, text in enumerate(texts, 1))
    notes = [note.get_object() for page in reader.pages for note in page.get("/Annots", [])]
    assert any("/Dest" in note for note in notes)
    assert not any("file:" in str(note.get("/A", "")) for note in notes)


def top(reader) -> list:
    """The bookmarks of the chapters."""
    return [entry for entry in reader.outline if not isinstance(entry, list)]

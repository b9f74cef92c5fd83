"""Print the built book to one PDF: every page in the order of _toc.yml, with page numbers, bookmarks and links.

python tools/book/pdf.py                                  the whole book
python tools/book/pdf.py book/notation book/glossary      some pages of it, to look at

A page is printed by Chromium with the print style of the site. Animations show their still, sliders a strip of their
states; hints and answers are open, solutions and folded code stand at the end of their chapter. What does not fit the
width of the paper is listed, and the command fails.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build/html"
PDF = SITE / "3d-unets-in-video-diffusion.pdf"  # Beside the pages, so that it is published with them.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SCALE = 0.84  # of the size on a screen
WIDTH = round((210 - 2 * 17) / 25.4 * 96 / SCALE)  # of the text on A4, in pixels of the page
PATIENCE = 120_000  # milliseconds: a busy machine is not a fault of the book

# What runs out of the text on paper; a thing inside another that does is left out.
TOO_WIDE = """(width) => {
    const left = document.querySelector("article").getBoundingClientRect().left;
    const hidden = "mjx-assistive-mml, .visually-hidden, [hidden], svg *";
    return [...document.querySelectorAll("article *")].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && box.height && box.right > left + width + 2 && !element.closest(hidden);
    }).map((element) => element.outerHTML.slice(0, 120));
}"""


def pages() -> list[str]:
    """The pages of the book in reading order, as paths without ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def settings() -> dict:
    """What _config.yml says."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def public_address() -> str:
    """Where the book is on the web: links to what is not in the file lead there."""
    return settings()["sphinx"]["config"]["ogp_site_url"]


@contextmanager
def browser() -> Iterator:
    """A Chromium that prints."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise SystemExit(
            "Chromium is not installed (on Debian and Ubuntu: apt install chromium), and it prints the pages"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def laid_out(chromium, page: str, site: Path = SITE):
    """A page as it will stand on paper, in a tab that is as wide as its text there."""
    context = chromium.new_context(
        viewport={"width": WIDTH, "height": 1100}, color_scheme="light", reduced_motion="reduce", device_scale_factor=2
    )
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto((site / f"{page}.html").as_uri(), wait_until="load")
    tab.evaluate("() => window.MathJax?.startup?.promise")
    prepare = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    tab.evaluate(prepare, [site.as_uri() + "/", public_address(), SCALE])
    tab.wait_for_function("() => [...document.images].every((image) => image.complete)")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('article video')].every((v) => v.error || v.networkState === 3)"
    )
    tab.wait_for_function(
        "() => [...document.querySelectorAll('article img[src$=\".gif\"]')].every((image) => image.hidden)"
    )
    tab.evaluate("() => document.fonts.ready")
    tab.emulate_media(media="print", color_scheme="light", reduced_motion="reduce")
    return tab


def too_wide(tab) -> list[str]:
    """What does not fit the width of the paper."""
    return tab.evaluate(TOO_WIDE, WIDTH)


def print_page(chromium, page: str, target: Path, site: Path = SITE) -> list[str]:
    """Print one page of the book; what is too wide for the paper is returned."""
    tab = laid_out(chromium, page, site)
    cut = too_wide(tab)
    tab.pdf(path=target, scale=SCALE, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    tab.context.close()
    return cut


def print_numbers(chromium, count: int, target: Path) -> None:
    """Print sheets that are empty but for their number."""
    tab = chromium.new_page()
    style = (
        "@page { size: A4; margin: 16mm 17mm 18mm; @bottom-center { content: counter(page); font: 9pt sans-serif } }"
    )
    tab.set_content(f"<style>{style} p {{ break-after: page }}</style>" + "<p>&nbsp;</p>" * (count - 1) + "&nbsp;")
    tab.pdf(path=target, prefer_css_page_size=True)
    tab.close()


Place = tuple[int, float | None]  # a sheet of the file, and how high on it; nothing for its top


def link_inside(writer, places: dict[tuple[str, str], Place], owners: list[str]) -> None:
    """Let links to pages of the book, and to places in them, lead there in the file instead of to the web.

    Two pages may have places of the same name, so ``owners`` says to which page each sheet belongs.
    """
    from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

    address = public_address()
    for page, owner in zip(writer.pages, owners, strict=True):
        for reference in page.get("/Annots", []):
            note = reference.get_object()
            uri = str(note.get("/A", {}).get("/URI", ""))
            if isinstance(note.get("/Dest"), str):
                name, anchor = owner, unquote(note["/Dest"].removeprefix("/"))
            elif uri.startswith(address):
                name, _, anchor = unquote(uri.removeprefix(address)).partition("#")
                name = name.removesuffix(".html")
            else:
                continue
            if (name, "") not in places:  # not in this file
                continue
            sheet, top = places.get((name, anchor), places[name, ""])
            height = [NullObject(), FloatObject(top), NullObject()] if top is not None else []
            how = NameObject("/XYZ" if height else "/Fit")
            note.pop("/A", None)
            there = writer.pages[sheet].indirect_reference
            note[NameObject("/Dest")] = ArrayObject([there, how, *height])


def join(chromium, printed: dict[str, Path], target: Path) -> int:
    """Put the printed pages together; return the number of sheets."""
    from pypdf import PdfReader, PdfWriter

    writer, places, owners = PdfWriter(), {}, []
    for name, path in printed.items():
        reader, first = PdfReader(path), len(writer.pages)
        owners += [name] * len(reader.pages)
        for anchor, there in reader.named_destinations.items():
            sheet = first + reader.get_destination_page_number(there)
            places[name, unquote(anchor.removeprefix("/"))] = sheet, there.top
        places[name, ""] = first, None
        writer.append(reader, import_outline=True)
    link_inside(writer, places, owners)
    numbers = target.with_suffix(".numbers.pdf")
    print_numbers(chromium, len(writer.pages), numbers)
    for sheet, number in zip(writer.pages, PdfReader(numbers).pages, strict=True):
        sheet.merge_page(number)
    numbers.unlink()
    config = settings()
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    writer.page_mode = "/UseOutlines"
    writer.compress_identical_objects()
    writer.write(target)
    return len(writer.pages)


def make(names: list[str], target: Path, site: Path = SITE) -> tuple[int, list[str]]:
    """Print pages of the book into one file; return the number of sheets and what is too wide for them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wide, printed = [], {}
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for name in names:
            printed[name] = Path(folder) / f"{len(printed):02}.pdf"
            wide += [f"{name}: {what}" for what in print_page(chromium, name, printed[name], site)]
        return join(chromium, printed, target), wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="such as book/notation; all, if none is named")
    parser.add_argument("--out", type=Path, default=PDF, help="the file to write")
    parser.add_argument("--site", type=Path, default=SITE, help="the folder of the built book")
    arguments = parser.parse_args()
    count, wide = make(arguments.pages or pages(), arguments.out, arguments.site)
    print(f"{arguments.out}: {count} pages, {arguments.out.stat().st_size / 1e6:.1f} MB")
    for line in wide:
        print(f"too wide for the paper: {line}", file=sys.stderr)
    raise SystemExit(bool(wide))


if __name__ == "__main__":
    main()

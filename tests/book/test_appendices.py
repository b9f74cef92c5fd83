"""The appendices say what is true of the library and of the chapters."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import appendices
import nbformat
import pytest
from execute_notebooks import ROOT, notebooks
from mdit_py_plugins.anchors.index import slugify

import vdmlib
from vdmlib.released.names import released_names

# Commands of TeX that stand for no quantity.
LAYOUT = re.compile(r"\\(?:text|mathrm|operatorname|mathsf|begin|end|tag)\*?\{[^}]*\}")
GREEK = re.compile(
    "alpha|beta|[gG]amma|[dD]elta|(var)?epsilon|eta|[tT]heta|kappa|[lL]ambda|mu|nu|rho|(var)?[sS]igma|tau|(var)?[pP]hi|chi|"
    "[pP]si|[oO]mega"
)


def letters(text: str) -> Iterator[str]:
    """Letters, Latin and Greek, in the formulas of a page."""
    formulas = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    formulas += re.findall(r"(?<!\$)\$([^$]{1,200}?)\$(?!\$)", re.sub(r"\$\$.+?\$\$", " ", text, flags=re.DOTALL))
    for formula in formulas:
        for command, letter in re.findall(r"\\([A-Za-z]+)|([A-Za-z])", LAYOUT.sub(" ", formula)):
            if letter or GREEK.fullmatch(command):
                yield letter or command


@cache
def markdown(path: Path) -> list[str]:
    """The cells of a chapter that are text."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def words(path: Path) -> str:
    return "\n\n".join(markdown(path))


def test_letters_are_found_in_formulas_only():
    text = "Take $x_t = \\bar\\alpha_t\\, x_0$ and\n\n$$ \\text{SNR} = \\frac{a}{b} $$ (eq-x)\n\nbut no Z."
    assert set(letters(text)) == {"x", "t", "alpha", "a", "b"}


def chapters(cell: str) -> set[int]:
    """The chapters that the last column of the page names, such as "1, 6 to 8" or "all"."""
    pairs = re.findall(r"(\d+)(?: to (\d+))?", cell.replace("all", "1 to 99"))
    return {number for first, last in pairs for number in range(int(first), int(last or first) + 1)}


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notation_has_every_letter_of_a_chapter(path: Path):
    """In a row that names the chapter."""
    page = (ROOT / "book/notation.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").rsplit(" | ", 1) for line in page.splitlines() if line.startswith("| ")]
    here = [meaning for meaning, where in lines if int(path.stem[:2]) in chapters(where)]
    assert set(letters(words(path))) - set(letters("\n".join(here))) == set()


# A letter may have two rows for one chapter where an index says of which answer.
ANSWERS = {"v", r"\varepsilon"}
SYMBOL = re.compile(r"(?:\\bar\s*)?((?:\\(?:mathcal|mathbb|mathrm|hat)\s*)?\\?[A-Za-z]+)")


def symbols(cell: str) -> set[str]:
    """The letters that a row explains, without indices, arguments, primes and bars."""
    found = set()
    for formula in re.findall(r"\$([^$]+)\$", cell):
        formula = re.sub(r"\([^)]*\)|\[.*\]", " ", LAYOUT.sub(" ", formula))
        formula = re.sub(r"[_^](\{[^}]*\}|\\?[A-Za-z]+|.)", "", formula)
        found |= {re.sub(r"\s", "", symbol) for symbol in SYMBOL.findall(formula)}
    return found


def test_symbols_are_letters_with_their_style():
    cell = "$s_t$, $s'$, $p(x \\mid T)$; $\\bar\\alpha_t$, $\\hat x_0$, $\\mathrm e$, `w`, $W'_{K}$"
    assert symbols(cell) == {"s", "p", r"\alpha", r"\hatx", r"\mathrme", "W"}


def test_a_letter_has_one_meaning_within_a_chapter():
    page = (ROOT / "book/notation.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").rsplit(" | ", 1) for line in page.splitlines() if line.startswith("| ")]
    meanings: dict[tuple[int, str], int] = {}
    for meaning, where in lines:
        for place in product(chapters(where) & set(range(1, 12)), symbols(meaning.split(" | ")[0]) - ANSWERS):
            meanings[place] = meanings.get(place, 0) + 1
    assert len(meanings) > 150
    assert {place for place, rows in meanings.items() if rows > 1} == set()


def test_chapters_are_read_as_people_write_them():
    assert chapters("1, 6 to 8, 11") == {1, 6, 7, 8, 11} and chapters("all") >= set(range(1, 12))


def rows(markdown: str) -> list[list[str]]:
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in markdown.splitlines()[2:]]


@pytest.mark.parametrize("name", [*appendices.FAMILY, "videocrafter1_t2v_1024", "dynamicrafter_512"])
def test_the_page_of_names_gives_every_released_name(name):
    places = {ours.strip("`"): theirs.strip("`") for ours, theirs in rows(appendices.places())}
    inside = {ours.strip("`"): theirs.strip("`") for _, ours, theirs in rows(appendices.inside())}
    assert len(places) > 60 and len(inside) > 30
    for ours, (theirs, _) in released_names(getattr(vdmlib.UNet3DConfig, name)()).items():
        place = next(place for place in places if ours.startswith(place + "."))
        part, kind = re.fullmatch(r"(?:(.*)\.)?(\w+)", ours.removeprefix(place + ".")).groups()
        if kind == "table":
            part, kind = f"{part}.table", ""
        elif kind == "image_gate":
            part, kind = f"{part}.{kind}", ""
        pieces = [places[place], inside.get(part, part), kind]
        assert ".".join(piece for piece in pieces if piece) == theirs


def test_a_page_without_its_tables_is_noticed():
    with pytest.raises(KeyError, match="no_such_table"):
        appendices.fill("{{ no_such_table }}")
    assert appendices.fill("## Settings\n\n{{ settings }}\n").count("|") > 60


def entries(page: str) -> dict[str, str]:
    """The terms of a glossary, and what is said of them."""
    inside = re.search(r"```\{glossary\}\n(.*?)```", page, re.DOTALL)[1]
    return dict(re.findall(r"^(\S.*)\n((?:  .*\n)+)", inside, re.MULTILINE))


def test_every_term_of_the_glossary_names_the_section_that_teaches_it():
    glossary = entries((ROOT / "book/glossary.md").read_text(encoding="utf-8"))
    assert len(glossary) > 55 and list(glossary) == sorted(glossary, key=str.lower)
    sections = {
        (path.name, slugify(heading))
        for path in notebooks()
        for heading in re.findall(r"^##+ (.+)$", words(path), re.MULTILINE)
    }
    for term, text in glossary.items():
        links = re.findall(r"\((\w+\.ipynb)#([^)]*)\)", text)
        assert links and set(links) <= sections, term
        assert len(text.split("See ")[0].split()) < 50, f"{term}: say it in two sentences"


def test_every_term_is_linked_from_a_chapter_and_every_link_leads_to_a_term():
    glossary = entries((ROOT / "book/glossary.md").read_text(encoding="utf-8"))
    linked = {
        re.sub(r".*<(.+)>", r"\1", text)
        for path in notebooks()
        for text in re.findall(r"\{term\}`([^`]+)`", words(path))
    }
    assert linked == set(glossary)


FORMS = {"query, key, value": "quer(?:y|ies), keys?,? and values?", "latents": "latents?", "CLIP": "(?-i:CLIP)"}
ASIDE = {"signal-to-noise ratio": "peak signal-to-noise ratio"}  # another thing, of which the word is a part


def as_read(source: str) -> str:
    """What can be linked in the text of a cell, with a link to the glossary as ‹term›."""
    source = re.sub(r"```.*?```|\$\$.*?\$\$|^#.*?$", " ", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", r"‹\1›", source)
    source = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)", " ", source)
    return re.sub(r"\s+", " ", source)


def first_use(term: str, cells: list[str]) -> str | None:
    """How the first use of a word begins: with a ‹ where it is a link. The title says what is to come, and may link."""
    form = FORMS.get(term, re.escape(term).replace(r"\ ", "[ -]") + "s?")
    for number, source in enumerate(cells):
        text = as_read(source).replace(ASIDE.get(term, "\0"), "")
        words = "" if number == 0 else rf"|\b{form}\b"
        if found := re.search(rf"‹{re.escape(term)}›{words}", text, re.IGNORECASE):
            return found[0]
    return None


def test_first_uses_are_found():
    cells = [
        "# Heads\n\nWith heads.",
        "$head$ `head` {term}`two <token>`\n\n## A head\n\nTwo\nHEADS, {term}`heads <head>`",
    ]
    assert first_use("head", cells) == "HEADS" and first_use("token", cells) == "‹token›"
    assert first_use("head", ["{term}`head`", *cells]) == "‹head›" and first_use("clip", cells) is None
    assert first_use("signal-to-noise ratio", ["", "A peak signal-to-noise ratio."]) is None


def test_a_word_of_the_glossary_is_linked_where_it_is_first_used():
    """In the first chapter that uses it, and there not after its first use."""
    glossary = entries((ROOT / "book/glossary.md").read_text(encoding="utf-8"))
    late = {}
    for term in glossary:
        uses = ((path.stem, first_use(term, markdown(path))) for path in notebooks())
        late[term] = next((stem, use) for stem, use in uses if use)
    assert {term: where for term, where in late.items() if where[1][0] != "‹"} == {}

"""Sphinx extension: what the theme and its companions need to be quiet, offline and accessible.

Each entry of `CORRECTIONS` is one fault of a page as Jupyter Book writes it; tests/test_book.py sees them
come back if an entry is taken away.
"""

import html
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.jinja2glue import BuiltinTemplateLoader
from sphinx.transforms.post_transforms import SphinxPostTransform

CORRECTIONS = [
    # Icons come from a font in the style sheet. This script replaces them by drawings, 1.5 MB a page, and
    # takes away the elements that the Play widget holds on to.
    (r'<script [^>]*src="[^"]*scripts/fontawesome\.js[^"]*"></script>', ""),
    # The front page is called what the book is called.
    (r"<title>(.+?) &#8212; \1</title>", r"<title>\1</title>"),
    # A name has to contain the words that are seen.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"[^>]*>', r"\1>"),
    # The side bar is a part of the page with a name.
    (r'(<div id="pst-primary-sidebar")', r'\1 role="complementary" aria-label="Book"'),
    # Roles that are deprecated, on elements that must not have them.
    (r' role="doc-(?:backlink|biblioentry|noteref)"', ""),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    # An empty corner of a table is no heading.
    (r"<th>\s*</th>", "<td></td>"),
]
CORRECTIONS = [(re.compile(pattern), replacement) for pattern, replacement in CORRECTIONS]


class CorrectedTemplates(BuiltinTemplateLoader):
    """Renders the theme's templates, then corrects what they write."""

    def render(self, template: str, context: dict) -> str:
        page = super().render(template, context)
        for pattern, replacement in CORRECTIONS:
            page = pattern.sub(replacement, page)
        return page


class DescribeWidgets(SphinxPostTransform):
    """Hand a cell's text alternative to the widgets it shows, as myst-nb does for its pictures.

    The pictures of a widget are made in the browser, where book.js takes their text from `data-alt`.
    """

    default_priority = 900

    def run(self, **kwargs) -> None:
        for cell in self.document.findall(nodes.container):
            alt = cell.get("cell_metadata", {}).get("mystnb", {}).get("image", {}).get("alt")
            for view in cell.findall(nodes.raw) if alt else ():
                if "application/vnd.jupyter.widget-view+json" in view.astext():
                    text = f'<div data-alt="{html.escape(alt)}">{view.astext()}</div>'
                    view.children = [nodes.Text(text)]


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Remove sphinx-thebe's scripts: they are added twice, which fails, and the book starts no kernels."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(script).lower()
        and "thebe" not in (getattr(script, "attributes", {}).get("body") or "").lower()
    ]


def setup(app: Sphinx) -> dict:
    app.add_post_transform(DescribeWidgets)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: what the theme and its companions need to be quiet, offline and accessible.

Each entry of `CORRECTIONS` is one fault of a page as Jupyter Book writes it; tests/book/test_book.py sees them
come back if an entry is taken away.
"""

import base64
import functools
import gzip
import html
import json
import math
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.jinja2glue import BuiltinTemplateLoader
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "vdmlib"
STATIC = ROOT / "book/_static"
BROWSER_PAGE = "book/in_your_browser"
WORLD_PAGE = "book/what_moves"
MEASURED = STATIC / "demo/examples/measured.json"  # by tests/book/test_browser_model.py
WITH_MAP = ("book/intro", "book/map", "book/08_unet3d")

CORRECTIONS = [
    # Icons come from a font in the style sheet. This script replaces them by drawings, 1.5 MB a page, and
    # takes away the elements that the Play widget holds on to.
    (r'<script [^>]*src="[^"]*scripts/fontawesome\.js[^"]*"></script>', ""),
    # The front page is called what the book is called.
    (r"<title>([^<]+) &#8212; \1</title>", r"<title>\1</title>"),
    # A name has to contain the words that are seen.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"[^>]*>', r"\1>"),
    # The side bar is a part of the page with a name.
    (r'(<div id="pst-primary-sidebar")', r'\1 role="complementary" aria-label="Book"'),
    # Roles that are deprecated, on elements that must not have them.
    (r' role="doc-(?:backlink|biblioentry|noteref)"', ""),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    # The parameters of a long signature are no list of definitions.
    (
        r'<dl>\s*((?:<dd><em class="sig-param">(?:(?!</dd>).)*</dd>\s*)+)</dl>',
        lambda found: f'<div class="sig-params">{found[1].replace("dd>", "div>")}</div>',
    ),
    # An empty corner of a table is no heading.
    (r"<th( [^>]*)?>\s*(?:<p>\s*</p>\s*)?</th>", r"<td\1></td>"),
]
CORRECTIONS = [(re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in CORRECTIONS]


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


def runtime_as_classic_script() -> bytes:
    """The runtime of the small model in the browser, a module, as a script that sets `self.ort`: a worker that is made
    from a blob cannot import modules in every browser."""
    module = (STATIC / "vendor/onnxruntime/ort.wasm.bundle.min.mjs").read_text(encoding="utf-8")
    module = re.sub(r"//# sourceMappingURL=.*", "", module).replace("import.meta.url", "self.location.href")
    body, exported = re.fullmatch(r"(.*)export\{([^}]*)\};\s*", module, re.DOTALL).groups()
    names = [f"{public}:{local}" for local, public in (name.split(" as ") for name in exported.split(","))]
    return f"/* Changed: a module made into a script. */\n(()=>{{{body}self.ort={{{','.join(names)}}};}})();\n".encode()


def packed_files() -> dict[str, bytes]:
    """All that the model needs in the browser, by its name there."""
    paths = [STATIC / "demo/model.js", STATIC / "vendor/onnxruntime/ort-wasm-simd-threaded.wasm"]
    paths += sorted((STATIC / "demo/graphs").glob("*.onnx"))
    paths += [LIBRARY / f"small/shipped/{name}.safetensors" for name in ("t2v", "i2v", "autoencoder", "judge")]
    return {"runtime.js": runtime_as_classic_script()} | {path.name: path.read_bytes() for path in paths}


def pack_model(app: Sphinx, error: Exception | None) -> None:
    """Write the files of the model as scripts: all that a page may load where there is no server."""
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static/demo/packed")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in packed_files().items():
        packed = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
        (folder / f"{name}.js").write_text(f"packed[{json.dumps(name)}]={json.dumps(packed)};\n", encoding="utf-8")
    for name in ("demo/graphs", "demo/examples", "vendor/onnxruntime"):  # They are packed now, or in the page.
        for path in Path(app.outdir, "_static", name).glob("*"):
            if path.suffix in (".onnx", ".wasm", ".mjs", ".webp", ".png", ".json"):
                path.unlink()


def add_demo(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """The scripts of the pages on which the model runs, or has run, on these pages alone."""
    if pagename == BROWSER_PAGE:
        app.add_css_file("demo/demo.css")
        app.add_js_file("demo/demo.js", loading_method="defer")
    elif pagename == WORLD_PAGE:
        app.add_css_file("world/world.css")
        app.add_js_file("world/clips.js", loading_method="defer")
        app.add_js_file("world/world.js", loading_method="defer")


def put_stored_clips(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the clips that the panels of the model show at first, and what was measured, into the page itself, which
    then asks for nothing."""
    if docname == BROWSER_PAGE:
        source[0] = re.sub(r"\{\{ (\w+) \}\}", lambda found: measured()[found[1]], source[0])
        source[0] = re.sub(r'<div class="demo" data-kind="(\w+)">', lambda found: stored_clip(found[1]), source[0])


def stored_clip(kind: str) -> str:
    """The beginning of a panel, with its stored clip as data and as pictures: all there is to see without scripts."""
    folder = STATIC / "demo/examples"
    about = (folder / f"{kind}.json").read_text(encoding="utf-8").strip()
    pictures = {
        f"{kind}-noisy.webp": "Noisy latents: a row for each of nine moments, a column for each of eight frames.",
        f"{kind}-guesses.webp": "What the model takes the clip to be at these moments; last the clip, a red 7.",
    }
    if kind == "i2v":
        pictures["drawing.png"] = "The drawing that the model was given: a red 7."
    images = ""
    for name, alt in pictures.items():
        content = base64.b64encode((folder / name).read_bytes()).decode()
        images += f'<img alt="{alt}" src="data:image/{name.split(".")[1]};base64,{content}">'
    return f'<div class="demo" data-kind="{kind}" data-stored="{html.escape(about)}">{images}'


def measured() -> dict[str, str]:
    """What the page in the browser says of its numbers and its time, compared with PyTorch's."""
    found = json.loads(MEASURED.read_text(encoding="utf-8"))
    difference = max(found["difference"].values())
    return {
        "difference": f"{difference:.{-math.floor(math.log10(difference))}f}",
        "bytes": str(math.ceil(1e5 * max(found["bytes"].values()))),
        "page": f"{found['seconds']['page']:.1f}",
        "pytorch": f"{found['seconds']['PyTorch']:.1f}",
        "ratio": f"{found['ratios']['clip']:.1f}",
        "denoiser": f"{found['ratios']['denoiser']:.1f}",
        "decoder": f"{found['ratios']['decoder']:.1f}",
        "judge": f"{found['ratios']['judge']:.1f}",
        "processors": f"{found['ratios']['processors']:.1f}",
    }


def list_modules(app: Sphinx, docname: str, source: list[str]) -> None:
    """Complete the reference page: every module of the library, in the order and the sections of vdmlib/README.md."""
    if docname != "book/api":
        return
    options = "".join(f"\n   :{option}:" for option in ("members", "undoc-members", "ignore-module-all"))
    for line in (LIBRARY / "README.md").read_text(encoding="utf-8").splitlines():
        module = re.match(r"- \[`([\w.]+)`\]", line)
        if line.startswith("## "):
            source[0] += f"\n\n{line}\n"
        if "`viz`" in line:  # What all drawings have in common.
            source[0] += "\n```{eval-rst}\n.. automodule:: vdmlib.viz\n```\n"
        elif module:
            name = f"vdmlib.{module[1]}"
            source[0] += f"\n\n### `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}{options}\n```\n"


def fill_appendices(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the tables that are made from the library into the appendices, and the map one can walk into its pages."""
    # Both build networks: torch is imported only where a page needs it.
    if docname in ("book/names", "book/shapes"):
        import appendices

        source[0] = appendices.fill(source[0])
    elif docname in WITH_MAP:
        import walk

        source[0] = walk.fill(source[0])


def name_places_on_the_map(app: Sphinx, doctree: nodes.document) -> None:
    """Let pages link to a block of the map as to a heading: `[decoder 5](map.md#decoder-5)`."""
    if app.env.docname in WITH_MAP:
        headings = app.env.metadata[app.env.docname]["myst_slugs"]
        for raw in doctree.findall(nodes.raw):
            for place in re.findall(r'class="walk-place" id="([^"]+)"', raw.astext()):
                headings[place] = (raw.line, place, place)


def add_map_files(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """The map's script and its styles, on its pages only."""
    if pagename in WITH_MAP:
        app.add_js_file("walk.js", loading_method="defer")
        app.add_css_file("walk.css")


def skip_values(app: Sphinx, what: str, name: str, member, skip: bool, options) -> bool | None:
    """Leave values out of the reference: the docstring of their class or module says what they mean."""
    described = (type, property, classmethod, staticmethod, functools.cached_property)
    return None if callable(member) or isinstance(member, described) else True


def find_in_library(app: Sphinx, env, node, contnode):
    """Resolve a name as a reader of the library writes it: `UNet3D` or `vdmlib.UNet3D`, wherever it is defined.

    Names of Python's own library stay as they are.
    """
    if node.get("refdomain") != "py":
        return None
    if node["reftarget"].split(".")[0] in sys.stdlib_module_names:
        return contnode
    ending = "." + node["reftarget"].removeprefix("vdmlib.")
    domain = env.get_domain("py")
    found = [(name, entry) for name, entry in domain.objects.items() if name.endswith(ending) and not entry.aliased]
    if len(found) != 1:
        return None
    name, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def setup(app: Sphinx) -> dict:
    app.add_post_transform(DescribeWidgets)
    app.connect("source-read", list_modules)
    app.connect("source-read", fill_appendices)
    app.connect("doctree-read", name_places_on_the_map)
    app.connect("source-read", put_stored_clips)
    app.connect("autodoc-skip-member", skip_values)
    app.connect("missing-reference", find_in_library)
    # Napoleon reads "Whether it is so: a tenth are." in the docstring of a property as a type and its description.
    GoogleDocstring._parse_attribute_docstring = lambda self: list(self._consume_to_end())
    app.connect("html-page-context", add_map_files)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", add_demo)
    app.connect("build-finished", pack_model)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

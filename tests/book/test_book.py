"""The built book in a real browser: every page, on a desk and on a phone, in light and in dark.

`make book` builds it. The pages come from a server on this machine, and nothing else may be asked for.
"""

import functools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from built_book import AXE, DESK, PHONE, ROOT, SITE, Visit, open_page

DOT = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # a GIF of one pixel

pytestmark = pytest.mark.browser


class Page(HTMLParser):
    """The links, anchors and redirection of one HTML file."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.redirects = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
            self.redirects = True
            self.links.append(attributes["content"].split("url=")[1])


@functools.cache
def parsed(site: Path) -> dict[str, Page]:
    """Every HTML page of a site by its path in it."""
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    return {path.relative_to(site).as_posix(): Page(path) for path in pages}


def broken_links(site: Path) -> list[str]:
    """Every link inside the site that leads to no file or to no place in it."""
    broken = []
    for name, page in parsed(site).items():
        for link in page.links:
            if urlsplit(link).scheme:
                continue
            target = urlsplit(urljoin(f"http://site/{name}", link))
            path = unquote(target.path).lstrip("/")
            if not (site / path).is_file():
                broken.append(f"{name}: {link} does not exist")
                continue
            anchors = parsed(site)[path].anchors if path in parsed(site) else ()
            if target.fragment and unquote(target.fragment) not in anchors:
                broken.append(f"{name}: {link} has no such place")
    return broken


PAGES = [name for name, page in parsed(SITE).items() if not page.redirects]
# The pages of the library's source are made by one template: the first, the longest and the last stand for all.
SOURCES = [name for name in PAGES if name.startswith("_modules")]
SAMPLE = {*SOURCES[:1], *SOURCES[-1:], *sorted(SOURCES, key=lambda name: (SITE / name).stat().st_size)[-1:]}
# Pages that a script of the book draws.
DRAWN = {name for name in PAGES if re.search(r'class="(walk|world|demo)\b', (SITE / name).read_text(encoding="utf-8"))}
LOOKED_AT = [name for name in PAGES if name not in SOURCES or name in SAMPLE]


def test_the_book_is_built():
    assert "index.html" in parsed(SITE), f"no book in {SITE}: run `make book` first"


def test_no_broken_links_or_anchors():
    assert broken_links(SITE) == []


def test_no_page_names_the_folder_that_it_was_built_in():
    assert [name for name in parsed(SITE) if str(ROOT) in (SITE / name).read_text(encoding="utf-8")] == []


@pytest.fixture(
    scope="module",
    params=[
        # Tests of one visit stay together when they are spread over processes.
        pytest.param((page, viewport, theme), id=name, marks=pytest.mark.xdist_group(name))
        for page in LOOKED_AT
        for viewport in (DESK, PHONE)
        for theme in ("light", "dark")
        # No rule of the styles asks for a width and a theme at once: each once is enough, but where a script draws.
        if page in DRAWN or (viewport, theme) in ((DESK, "light"), (PHONE, "dark"))
        for name in [f"{page}-{viewport['width']}-{theme}"]
    ],
)
def visit(request, browser, server) -> Iterator[Visit]:
    page, viewport, theme = request.param
    opened = open_page(browser, server + page, (server, "data:", f"blob:{server}"), viewport, theme)
    yield opened
    opened.tab.context.close()


def test_asks_no_other_site(visit):
    assert visit.requests == []


def test_console_is_quiet(visit):
    assert visit.complaints == []


def test_accessible(visit):
    visit.tab.add_script_tag(path=AXE)
    found = visit.ask("async () => (await axe.run()).violations")
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []


def test_fits_the_width(visit):
    assert visit.ask("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    # What is wider than the page has to scroll in a box of its own; what is only cut off cannot be read.
    cut_off = """() => [...document.querySelectorAll("main *")].filter((element) => {
        const box = element.getBoundingClientRect();
        if (!box.width || !box.height || box.right <= document.documentElement.clientWidth + 1) return false;
        for (let around = element; around; around = around.parentElement) {
            if (["auto", "scroll"].includes(getComputedStyle(around).overflowX)) return false;
            if (around.matches("mjx-assistive-mml, dialog, .tooltip, .visually-hidden")) return false;
        }
        return true;
    }).map((element) => element.outerHTML.slice(0, 120))"""
    assert visit.ask(cut_off) == []


def test_colours_follow_the_system(visit):
    dark = visit.ask("() => matchMedia('(prefers-color-scheme: dark)').matches")
    colour = visit.ask("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == dark


SET = "() => [...document.querySelectorAll('.math')].every((math) => math.querySelector('mjx-container'))"


def test_mathematics_is_set(visit):
    assert visit.ask(SET)
    assert visit.ask("() => document.querySelectorAll('mjx-merror, [data-mjx-error]').length") == 0


def test_pictures_load_and_say_what_is_on_them(visit):
    pictures = visit.ask(
        "() => [...document.querySelectorAll('article img')]"
        ".map((image) => [image.src.slice(0, 80), image.naturalWidth, image.alt])"
    )
    assert [picture for picture in pictures if picture[1] == 0 or not picture[2].strip()] == []


def with_sliders() -> list[str]:
    return [page for page in PAGES if "widget-view+json" in (SITE / page).read_text(encoding="utf-8")]


# What a reader sees of the widgets' pictures, as pixels: their addresses change each time they are shown.
SHOWN = """async () => Promise.all([...document.querySelectorAll("article .jupyter-widgets img")]
    .filter((image) => image.offsetParent)
    .map(async (image) => {
        await image.decode();
        const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        const hash = await crypto.subtle.digest("SHA-256", pixels);
        return [...new Uint8Array(hash)].join();
    }))"""


@pytest.mark.parametrize("page", with_sliders())
def test_every_slider_changes_its_picture(browser, server, page):
    tab = open_page(browser, server + page, ("",)).tab
    handles = tab.locator("article .noUi-handle")
    assert handles.count() > 0
    for number in range(handles.count()):
        before = tab.evaluate(SHOWN)
        handle = handles.nth(number)
        handle.focus()
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.press("ArrowLeft" if at_end else "ArrowRight")
        tab.wait_for_timeout(300)
        after = tab.evaluate(SHOWN)
        assert before != after, f"slider {number} of {page} changes nothing"
        handle.press("ArrowRight" if at_end else "ArrowLeft")
        tab.wait_for_timeout(300)
        assert tab.evaluate(SHOWN) == before
    tab.context.close()


def with_animations() -> list[str]:
    return [page for page in PAGES if re.search(r"<img[^>]*\.gif\"", (SITE / page).read_text(encoding="utf-8"))]


SIZE = "(picture) => [picture.clientWidth, picture.clientHeight]"


@pytest.mark.parametrize("page", with_animations())
def test_every_animation_can_be_stopped(browser, server, page):
    tab = open_page(browser, server + page, ("",)).tab
    for animation in tab.locator("article .animation").all():
        moving, still = animation.locator("img"), animation.locator("canvas")
        size = moving.evaluate(SIZE)
        assert moving.is_visible() and not still.is_visible()
        picture, button = moving.bounding_box(), animation.get_by_role("button").bounding_box()
        assert button["y"] >= picture["y"] + picture["height"], "the button hides a part of the picture"
        animation.get_by_role("button", name="Pause").click()
        assert still.is_visible() and not moving.is_visible()
        assert still.evaluate(SIZE) == size
        animation.get_by_role("button", name="Play").click()
        assert moving.is_visible() and not still.is_visible()
    pictures = tab.locator("article img[src$='.gif']").count()
    assert pictures == tab.locator("article .animation").count() > 0
    tab.emulate_media(reduced_motion="reduce")
    tab.reload(wait_until="load")
    tab.wait_for_function(f"() => document.querySelectorAll('article .animation').length === {pictures}")
    assert tab.locator("article .animation img:visible").count() == 0
    tab.context.close()


# The map one can walk


def with_map() -> list[str]:
    return [page for page in PAGES if 'class="walk"' in (SITE / page).read_text(encoding="utf-8")]


def test_the_map_is_on_the_front_page_in_chapter_8_and_on_its_own():
    assert sorted(with_map()) == ["book/08_unet3d.html", "book/intro.html", "book/map.html"]


@pytest.fixture
def tab_with_map(browser):
    """The map from a folder, with no server."""
    opened = open_page(browser, (SITE / "book/map.html").as_uri(), ("file:", "data:"), PHONE)
    yield opened.tab
    assert opened.requests == [] and opened.complaints == []
    opened.tab.context.close()


def shown(tab) -> str:
    assert tab.locator(".walk-map [aria-checked=true]").count() == 1
    return tab.locator(".walk-card h3").inner_text()


def test_the_map_shows_a_block_before_it_is_touched(tab_with_map):
    assert shown(tab_with_map) == "Decoder 5"
    assert "that encoder 6 has kept" in tab_with_map.locator(".walk-card [aria-live]").inner_text()
    assert "1413 million parameters" in tab_with_map.locator(".walk-about").inner_text()


def test_every_block_of_the_map_can_be_chosen(tab_with_map):
    """By mouse, and by steps in the order in which the blocks run."""
    blocks = tab_with_map.locator(".walk-map [role=radio]")
    assert blocks.count() == 28
    texts = set()
    for number in range(blocks.count()):
        blocks.nth(number).click()
        assert shown(tab_with_map) == blocks.nth(number).get_attribute("aria-label").split(":")[0]
        texts.add(tab_with_map.locator(".walk-card").inner_text())
        assert tab_with_map.locator(".walk-layers li").count() > 0
    assert len(texts) == 28
    passed = []
    for _ in range(28):
        tab_with_map.get_by_role("button", name="one on").click()
        passed.append(shown(tab_with_map))
    assert len(set(passed)) == 28 and passed[passed.index("Encoder 11") + 1] == "Middle"


def test_the_map_can_be_walked_with_the_keyboard(tab_with_map):
    tab = tab_with_map
    tab.locator(".walk-networks input:checked").focus()
    tab.keyboard.press("Tab")
    way = [
        ("ArrowLeft", "Encoder 6"),
        ("ArrowDown", "Encoder 7"),
        ("ArrowRight", "Decoder 4"),
        ("ArrowUp", "Decoder 5"),
    ]
    way += [("Home", "Embedding"), ("ArrowDown", "Encoder 0"), ("ArrowRight", "Initial attention"), ("End", "Out")]
    way += [("ArrowUp", "Out"), ("ArrowDown", "Decoder 11")] + [
        ("ArrowDown", f"Decoder {i}") for i in range(10, -1, -1)
    ]
    way += [("ArrowDown", "Middle"), ("ArrowDown", "Middle"), ("ArrowUp", "Encoder 11"), ("ArrowDown", "Middle")]
    way += [("ArrowRight", "Decoder 0")]
    for key, name in way:
        tab.keyboard.press(key)
        assert shown(tab) == name, key
        assert tab.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith(name)


def test_a_block_of_the_map_has_an_address(browser):
    """It opens the block, back and forward follow the choices, and a choice does not move the page."""
    there = (SITE / "book/map.html").as_uri()
    opened = open_page(browser, f"{there}#init-attention", ("file:", "data:"), PHONE)
    tab = opened.tab
    assert shown(tab) == "Initial attention"
    tab.wait_for_function("() => document.querySelector('.walk-card').getBoundingClientRect().top < innerHeight")
    before = tab.evaluate("() => scrollY")
    for name in ("Encoder 6", "Middle"):
        tab.get_by_role("radio", name=name).evaluate("(button) => button.click()")
        assert shown(tab) == name and tab.evaluate("() => scrollY") == before
    tab.get_by_role("radio", name="Middle").press("ArrowLeft")
    assert tab.url == f"{there}#encoder-11"
    for step, name in [("back", "Encoder 6"), ("back", "Initial attention"), ("forward", "Encoder 6")]:
        tab.evaluate(f"() => history.{step}()")
        tab.wait_for_function("(name) => document.querySelector('.walk-card h3').textContent === name", arg=name)
    tab.goto(f"{there}#things-to-find-out")
    assert shown(tab) == "Encoder 6"
    assert opened.requests == [] and opened.complaints == []
    tab.context.close()


def test_the_map_shows_every_network_and_what_differs(tab_with_map):
    tab = tab_with_map
    tab.locator(".walk-networks input:checked").focus()
    lit = {"VideoCrafter2": 0}
    for _ in range(5):
        tab.keyboard.press("ArrowRight")
        name = tab.locator(".walk-about strong").inner_text()
        lit[name] = tab.locator(".walk-map.compared .walk-cell.lit").count()
        assert tab.locator(".walk-about li").count() > 0
        assert shown(tab) == "Decoder 5"
        tab.add_script_tag(path=AXE)
        found = tab.evaluate("async () => (await axe.run('.walk', { preload: false })).violations")
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    # 16 spatial transformers; one convolution more; 22 ResNet blocks and 17 temporal transformers; all.
    assert list(lit.values()) == [0, 16, 39, 39, 17, lit["a small one"]] and lit["a small one"] > 60
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".walk-map.compared").count() == 0


def test_the_map_says_in_words_what_is_lit(tab_with_map):
    """In the label of a block and at its layers; not of the small network, where everything differs."""
    tab = tab_with_map
    said = {}
    for network in tab.locator(".walk-networks input").all():
        network.check(force=True)
        labels = [block.get_attribute("aria-label") for block in tab.locator(".walk-map [role=radio]").all()]
        said[network.get_attribute("value")] = "".join(labels).count("(differs)")
        layers = tab.locator(".walk-layers li").all_inner_texts()
        assert any("(differs)" in text for text in layers) == (
            "(differs)" in tab.locator("[aria-checked=true]").get_attribute("aria-label")
        )
    assert said["videocrafter2"] == said["small"] == 0
    assert said["videocrafter1_i2v"] == 16 and said["dynamicrafter_512"] == 17


def test_a_block_of_the_map_can_be_tapped(browser):
    """With a finger, on a phone."""
    there = (SITE / "book/map.html").as_uri()
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto(there)
    for name in ("Encoder 6", "Middle"):
        tab.get_by_role("radio", name=name).tap()
        assert shown(tab) == name
    tab.get_by_role("radio", name="VideoCrafter1 I2V").tap()
    assert shown(tab) == "Middle" and "16" in tab.locator(".walk-about").inner_text()
    context.close()


def test_links_on_the_map_lead_somewhere(tab_with_map):
    """They are made in the browser, where no look at the files finds them."""
    tab = tab_with_map
    links = set()
    for network in tab.locator(".walk-networks input").all():
        network.check(force=True)
        for block in tab.locator(".walk-map [role=radio]").all():
            block.click()
            links |= set(tab.evaluate("() => [...document.querySelectorAll('.walk-live a')].map((a) => a.href)"))
    inside = {link.removeprefix(SITE.as_uri() + "/") for link in links if link.startswith("file:")}
    assert len(inside) > 15
    for page, _, anchor in (link.partition("#") for link in inside):
        assert unquote(anchor) in parsed(SITE)[page].anchors, f"{page}#{anchor}"
    for link in links - {f"{SITE.as_uri()}/{path}" for path in inside}:
        _, path, line = re.fullmatch(r"(https://github.com/.+)/blob/main/(vdmlib/\w+\.py)#L(\d+)", link).groups()
        assert (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1].startswith("class ")


@pytest.mark.parametrize("page", LOOKED_AT)
def test_reads_from_a_folder_with_no_server(browser, page):
    visit = open_page(browser, (SITE / page).as_uri(), ("file:", "data:", "blob:"))
    assert visit.requests == [] and visit.complaints == []
    assert visit.ask(SET)
    visit.tab.context.close()


def test_search_finds_the_topic(browser, server):
    visit = open_page(browser, f"{server}search.html?q=diffusion", (server, "data:"))
    visit.tab.wait_for_selector("#search-results li a")
    assert visit.complaints == []
    visit.tab.context.close()


# Each check is shown to find the fault it is there for, on a page that has nothing but that fault.

FAULTS = [
    (test_asks_no_other_site, "<img src='http://127.0.0.1:9/x.png' alt='elsewhere'>"),
    (test_console_is_quiet, "<script>missing()</script>"),
    (test_console_is_quiet, "<script>console.error('broken')</script>"),
    (test_console_is_quiet, "<script src='missing.js'></script>"),
    (test_accessible, "<button></button>"),
    (test_accessible, "<p style='color: #bbb; background: #fff'>Hard to read</p>"),
    (test_fits_the_width, "<div style='width: 2000px'>wide</div>"),
    (test_fits_the_width, "<div style='overflow: hidden'><div style='width: 2000px'>cut off</div></div>"),
    (test_colours_follow_the_system, "<style>body { background: #000 !important }</style>"),
    (test_mathematics_is_set, "<span class='math'>x^2</span>"),
    (test_mathematics_is_set, "<mjx-merror>Undefined control sequence</mjx-merror>"),
    (test_pictures_load_and_say_what_is_on_them, "<img src='missing.png' alt='a picture'>"),
    (test_pictures_load_and_say_what_is_on_them, f"<img src='data:image/gif;base64,{DOT}'>"),
]
TEMPLATE = """<!DOCTYPE html><html lang="en"><head><title>A page</title><meta charset="utf-8">
<meta name="viewport" content="width=device-width"></head>
<body style="background: #fff"><main><article><h1>A title</h1>{}</article></main></body></html>"""
CHECKS = sorted({check for check, _ in FAULTS}, key=lambda check: check.__name__)


def visit_to(browser, folder: Path, content: str) -> Visit:
    page = folder / "page.html"
    page.write_text(TEMPLATE.format(content))
    return open_page(browser, page.as_uri(), ("file:", "data:"), PHONE)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_page_passes(check, browser, tmp_path):
    check(visit_to(browser, tmp_path, f"<p>Text</p><img src='data:image/gif;base64,{DOT}' alt='a dot'>"))


@pytest.mark.parametrize(("check", "content"), FAULTS)
def test_a_fault_is_found(check, content, browser, tmp_path):
    visit = visit_to(browser, tmp_path, content)
    with pytest.raises(AssertionError):
        check(visit)


@pytest.mark.parametrize("link", ["missing.html", "page.html#missing", "#missing", "missing.png"])
def test_a_broken_link_is_found(link, tmp_path):
    (tmp_path / "page.html").write_text(f"<h1 id='there'></h1><a href='#there'></a><a href='{link}'></a>")
    assert broken_links(tmp_path) == [f"page.html: {link} {'has no such place' if '#' in link else 'does not exist'}"]

"""Opening the pages of the built book in a browser."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("BOOK_SITE", ROOT / "_build/html"))
AXE = ROOT / "tests/vendor/axe-core/axe.min.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def cannot_look(reason: str) -> None:
    """Without a browser the pages are not looked at; in CI they have to be."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; .ci/run installs what is needed", pytrace=False)
    pytest.skip(f"{reason}, so the built book was not looked at")


@dataclass
class Visit:
    """An open page and what happened while it loaded."""

    tab: object
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def ask(self, script: str):
        return self.tab.evaluate(script)


def open_page(browser, address: str, allowed: tuple[str, ...], viewport=DESK, theme="light") -> Visit:
    """Load a page and let mathematics, widgets and pictures settle. A phone is touched."""
    tab = browser.new_context(viewport=viewport, color_scheme=theme, has_touch=viewport == PHONE).new_page()
    visit = Visit(tab)
    tab.on("request", lambda r: None if r.url.startswith(allowed) else visit.requests.append(r.url))
    tab.on("console", lambda m: visit.complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: visit.complaints.append(str(error)))
    tab.on("requestfailed", lambda r: visit.complaints.append(f"{r.url} failed"))
    tab.on("response", lambda r: visit.complaints.append(f"{r.url}: {r.status}") if r.status >= 400 else None)
    tab.set_default_timeout(120_000)  # a busy machine is not a fault of the book
    tab.goto(address, wait_until="load")
    tab.evaluate("() => window.MathJax?.startup?.promise")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('script[type=\"application/vnd.jupyter.widget-view+json\"]')]"
        ".every((view) => view.parentElement.querySelector('.jupyter-widgets'))"
    )
    # Pictures further down load when they come near.
    tab.evaluate("() => document.querySelectorAll('img').forEach((image) => { image.loading = 'eager' })")
    tab.wait_for_function("() => [...document.images].every((image) => image.complete)")
    tab.wait_for_timeout(200)
    return visit

"""A server for the built book and a browser that looks at it, shared by all tests of pages."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built_book import CHROMIUM, FLAGS, SITE, cannot_look


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address at which the book is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        cannot_look("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    try:
        playwright = sync_playwright().start()
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    except Exception as error:  # playwright raises a bare Exception when its own runtime does not start
        cannot_look(f"Chromium does not start ({error})")
    yield chromium
    chromium.close()
    playwright.stop()

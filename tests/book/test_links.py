"""The repository's address stands in one place, and a fork can let every link follow it."""

import shutil
from pathlib import Path

import links
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import vdmlib

FORK = "https://github.com/someone-else/a.fork_2"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of every file that holds links, and a notebook that holds each kind."""
    for path in links.files(links.ROOT):
        target = tmp_path / path.relative_to(links.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    url = links.address()
    cell = links.colab_cell(url).replace('"', r"\"")
    (tmp_path / "book").mkdir(exist_ok=True)
    (tmp_path / "book/sample.ipynb").write_text(f"{links.colab_link('book/sample.ipynb', url)}\n{cell}\n")
    return tmp_path


def contents(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def test_every_link_points_to_the_address_in_pyproject():
    assert links.wrong_links() == []


def test_a_fork_rewrites_every_link_and_can_go_back(copy):
    original, old = contents(copy), links.address()
    changed = links.rewrite(FORK, copy)

    assert {"README.md", "_config.yml", "CITATION.cff", "sample.ipynb"} <= {path.name for path in changed}
    assert links.address(copy) == FORK
    assert links.wrong_links(copy) == []
    owner, name = links.owner_and_name(old)
    for path, text in contents(copy).items():
        assert f"{owner}/{name}" not in text and f"{owner}.github.io" not in text, path
    notebook = (copy / "book/sample.ipynb").read_text()
    assert "google.com/github/someone-else/a.fork_2/blob/main/book/sample.ipynb" in notebook
    assert f"git+{FORK}" in notebook

    links.rewrite(old, copy)
    assert contents(copy) == original


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("book/sample.ipynb", "google.com/github/", "google.com/github/x"),
        ("book/sample.ipynb", "git+https://github.com/", "git+https://github.com/x"),
        ("_config.yml", "  url: https://github.com/", "  url: https://github.com/x"),
        ("_config.yml", "ogp_site_url:", "another_url:"),
        ("README.md", "git clone ", "git pull "),
        ("CITATION.cff", 'url: "https://', 'url: "https://x'),
    ],
)
def test_a_wrong_or_missing_link_is_found(copy, name, old, new):
    path = copy / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert [problem for problem in links.wrong_links(copy) if problem.startswith(name)]


@pytest.mark.parametrize("url", ["", "github.com/a/b", "https://github.com/a", "https://example.org/a/b"])
def test_an_address_that_is_none_is_refused_and_nothing_is_written(copy, url):
    before = contents(copy)
    with pytest.raises(SystemExit, match="OWNER/NAME"):
        links.rewrite(url, copy)
    assert contents(copy) == before


def test_a_repository_address_may_end_like_a_clone_address():
    assert links.owner_and_name("https://github.com/a/b.git") == links.owner_and_name("https://github.com/a/b/")


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ("0.7.0", ""),
        ("0.7.3.dev1", ""),
        ("0.6.9", 'is older than this page, which needs version 0.7: run pip install --upgrade "vdmlib[book] @ git+'),
        ("0.10.0", "is newer than this page, which needs version 0.7: open the page again from https://"),
        (None, "is older than this page"),
    ],
)
def test_the_first_cell_says_when_page_and_library_have_drifted_apart(installed, says, monkeypatch, capsys):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    if installed is None:
        monkeypatch.delattr(vdmlib, "__version__")
    else:
        monkeypatch.setattr(vdmlib, "__version__", installed)
    exec(TransformerManager().transform_cell(links.colab_cell(links.address(), (0, 7))), {})
    printed = capsys.readouterr().out
    assert says in printed and printed.count("\n") == bool(says)


def test_the_page_needs_the_version_that_is_here():
    assert links.version() == tuple(map(int, vdmlib.__version__.split(".")[:2]))

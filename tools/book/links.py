"""The repository's public address: it stands in pyproject.toml, and every link to it follows from there.

python tools/book/links.py                                    print the address
python tools/book/links.py --set https://github.com/me/fork   rewrite every link, badge and install line
python tools/book/links.py --check                            fail if a link points somewhere else
"""

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "pyproject.toml", "_config.yml", "README.md", "CITATION.cff", "LICENSE-text",
    ".github/**/*.yml", "book/**/*.md", "book/**/*.ipynb", "course/**/*.md", "course/**/*.ipynb",
)  # fmt: skip
NAME = r"([\w.-]+)/([\w-]+(?:\.[\w-]+)*)"  # owner/name, without a full stop that ends a sentence

# Where the address is expected. Links to other repositories are the author's business.
REPOSITORY = rf"https://github\.com/{NAME}"
SITE = rf"https://{NAME.replace('/', '[.]github[.]io/', 1)}/"
SLOTS = {
    "pyproject.toml": (rf'^Repository = "{REPOSITORY}"',),
    "_config.yml": (rf"^  url: {REPOSITORY}", rf"ogp_site_url: {SITE}"),
    "CITATION.cff": (rf'^repository-code: "{REPOSITORY}"', rf'^url: "{SITE}'),
    "README.md": (rf"git clone {REPOSITORY}", SITE),
}
EVERYWHERE = (
    rf"colab\.research\.google\.com/github/{NAME}/blob/",
    rf"git\+{REPOSITORY}",
    rf"git clone {REPOSITORY}",
)


def address(root: Path = ROOT) -> str:
    """The repository's public address, such as https://github.com/owner/name."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def owner_and_name(url: str) -> tuple[str, str]:
    """Owner and name of a repository's address; SystemExit with a sentence if it is no such address."""
    match = re.fullmatch(rf"https://github\.com/{NAME}", url.removesuffix(".git").rstrip("/"))
    if match is None:
        raise SystemExit(f"{url} is not the address of a repository: give it as https://github.com/OWNER/NAME")
    return match[1], match[2]


def colab_link(notebook: str, url: str) -> str:
    """Where Colab opens a notebook, given its path in the repository."""
    return f"https://colab.research.google.com/github/{'/'.join(owner_and_name(url))}/blob/main/{notebook}"


def version(root: Path = ROOT) -> tuple[int, int]:
    """The first two numbers of the library's version, which change with any name that a page uses."""
    text = (root / "vdmlib/__init__.py").read_text(encoding="utf-8")
    major, minor = re.search(r'^__version__ = "(\d+)\.(\d+)', text, re.MULTILINE).groups()
    return int(major), int(minor)


def colab_cell(url: str, needs: tuple[int, int] | None = None) -> str:
    """The first code cell of every notebook; it needs today's version of the library, or the one given."""
    needs = needs or version()
    owner, name = owner_and_name(url)
    return f"""\
import importlib.util
import os

# On Colab the library comes from the book's repository; torch and numpy stay as Colab has them.
source = "vdmlib[book] @ git+{url}"
if "COLAB_RELEASE_TAG" in os.environ and importlib.util.find_spec("vdmlib") is None:
    %pip install --quiet "{{source}}"

import vdmlib

needs, found = {needs}, tuple(int(number) for number in getattr(vdmlib, "__version__", "0.1").split(".")[:2])
if found != needs:
    age, cure = "newer", "open the page again from https://{owner}.github.io/{name}/"
    if found < needs:
        age, cure = "older", f'run pip install --upgrade "{{source}}"'
    print(f"The installed vdmlib is {{age}} than this page, which needs version {needs[0]}.{needs[1]}: {{cure}}")"""


def files(root: Path) -> list[Path]:
    """The files that hold links to the repository."""
    found = {path for pattern in FILES for path in root.glob(pattern)}
    return sorted(path for path in found if not {"vendor", ".ipynb_checkpoints"} & set(path.parts))


def rewrite(url: str, root: Path = ROOT) -> list[Path]:
    """Let every link point to the given repository; returns the files that changed."""
    old, new = owner_and_name(address(root)), owner_and_name(url)
    replacements = [
        (rf"github\.com/{re.escape('/'.join(old))}(?![\w-])", f"github.com/{'/'.join(new)}"),
        (rf"google\.com/github/{re.escape('/'.join(old))}(?![\w-])", f"google.com/github/{'/'.join(new)}"),
        (rf"https://{re.escape('.github.io/'.join(old))}(?![\w-])", f"https://{'.github.io/'.join(new)}"),
    ]
    changed = []
    for path in files(root):
        before = after = path.read_text(encoding="utf-8")
        for pattern, replacement in replacements:
            after = re.sub(pattern, replacement, after)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def wrong_links(root: Path = ROOT) -> list[str]:
    """One line for every link to the book's repository that is missing or does not point to it."""
    expected = owner_and_name(address(root))
    problems = []
    for path in files(root):
        name = str(path.relative_to(root))
        text = path.read_text(encoding="utf-8")
        for pattern in SLOTS.get(name, ()):
            if not re.search(pattern, text, re.MULTILINE):
                problems.append(f"{name}: the address is missing (looked for {pattern})")
        for pattern in (*SLOTS.get(name, ()), *EVERYWHERE):
            for match in re.finditer(pattern, text, re.MULTILINE):
                if match.groups() != expected:
                    problems.append(f"{name}: {match[0].strip()} is not in {'/'.join(expected)}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--set", metavar="URL", help="the new address, https://github.com/OWNER/NAME")
    action.add_argument("--check", action="store_true", help="only look")
    arguments = parser.parse_args()
    if arguments.set:
        for path in rewrite(arguments.set):
            print(f"rewrote {path.relative_to(ROOT)}")
    elif arguments.check:
        if problems := wrong_links():
            raise SystemExit("\n".join(problems))
    else:
        print(address())


if __name__ == "__main__":
    main()

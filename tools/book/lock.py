"""Write constraints.txt: the exact installed version of everything that requirements.txt brings along."""

import argparse
import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
HEADER = "# What the packages of requirements.txt bring along, pinned. Written by `make lock`.\n"
# A build of torch for another kind of machine brings others, which torch itself pins.
LEFT_TO_TORCH = re.compile(r"nvidia-|cuda-|triton")


def requested(requirements: Path) -> list[Requirement]:
    """The requirements that stand in a requirements file."""
    lines = (line.split(" #")[0].strip() for line in requirements.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def brought_along(requirements: list[Requirement]) -> dict[str, str]:
    """Name to installed version of every package that the requirements need and do not name themselves."""
    direct = {canonicalize_name(requirement.name) for requirement in requirements}
    seen: dict[tuple[str, str], str] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        for extra in extras:
            if (name, extra) in seen or LEFT_TO_TORCH.match(name):
                continue
            try:
                distribution = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                raise SystemExit(
                    f"{name} is needed by requirements.txt but not installed: run `make setup` first"
                ) from None
            seen[name, extra] = distribution.version
            needed = [Requirement(line) for line in distribution.requires or []]
            waiting += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name: version for (name, _), version in sorted(seen.items()) if name not in direct}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    arguments = parser.parse_args()
    target = ROOT / "constraints.txt"
    versions = brought_along(requested(ROOT / "requirements.txt"))
    text = HEADER + "".join(f"{name}=={version}\n" for name, version in versions.items())
    if arguments.check and (not target.exists() or target.read_text() != text):
        raise SystemExit("constraints.txt is not what is installed: run `make lock`")
    if not arguments.check:
        target.write_text(text)


if __name__ == "__main__":
    main()

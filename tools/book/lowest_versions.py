"""Print the lowest versions that pyproject.toml allows, as pip takes them: CI installs them once.

python tools/book/lowest_versions.py > lowest.txt && pip install -r lowest.txt -e .
"""

import argparse
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def lowest() -> list[str]:
    """Each dependency of the library and of its extras, pinned to its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    pinned = set()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        if len(bounds) != 1:
            raise SystemExit(f"{line} has {len(bounds)} lower bounds, but a dependency needs one, such as numpy>=1.26")
        pinned.add(f"{requirement.name}=={bounds[0]}")
    return sorted(pinned)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    print("\n".join(lowest()))


if __name__ == "__main__":
    main()

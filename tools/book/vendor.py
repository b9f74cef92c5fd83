"""Fetch the files of other projects that the book and its tests carry, so that neither needs the network.

Needs npm. Each package is taken at the version named here; only the listed files and the licence are kept. Where npm's
package has no licence, it comes from the Python package of the same version.
"""

import argparse
import filecmp
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATIC = Path("book/_static/vendor")


@dataclass(frozen=True)
class Package:
    """One npm package: what is kept of it (glob patterns under `source`) and where it is put.

    `wheel` is the Python package that has the licence and notices, `sha256` what the files have to be.
    """

    name: str
    version: str
    licence: str
    target: Path
    source: str
    patterns: tuple[str, ...]
    wheel: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)


def font(name: str, version: str) -> Package:
    """The latin and greek parts of one open font."""
    kept = tuple(f"{name}-{part}-wght-{style}.woff2" for part in ("latin", "greek") for style in ("normal", "italic"))
    return Package(f"@fontsource-variable/{name}", version, "OFL-1.1", STATIC / "fonts" / name, "files", kept)


PACKAGES = (
    Package(
        "mathjax", "3.2.2", "Apache-2.0", STATIC / "mathjax", "es5",
        ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff"),
    ),
    Package(
        "@jupyter-widgets/html-manager", "1.0.14", "BSD-3-Clause", STATIC / "html-manager", "dist",
        ("embed.js", "embed.js.LICENSE.txt", "*.woff2"),
    ),
    font("source-serif-4", "5.3.1"),
    font("source-sans-3", "5.3.0"),
    font("source-code-pro", "5.3.0"),
    Package(
        "onnxruntime-web", "1.30.0", "MIT", STATIC / "onnxruntime", "dist",
        ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"), wheel="onnxruntime",
        sha256={
            "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
            "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
            "LICENSE": "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c",
            "ThirdPartyNotices.txt": "143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3",
        },
    ),
    Package("axe-core", "4.14.1", "MPL-2.0", Path("tests/vendor/axe-core"), ".", ("axe.min.js",)),
)  # fmt: skip


def fetch(package: Package, folder: Path) -> Path:
    """Download and unpack a package; returns the folder that holds its files."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["npm", "pack", "--silent", f"{package.name}@{package.version}"], cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    archive = next(folder.glob("*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    if package.wheel:
        fetch_notices(package, folder)
    return folder / "package"


def fetch_notices(package: Package, folder: Path) -> None:
    """Put the licence and the notices of others' code, from the Python package, beside the files of the npm package."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         f"{package.wheel}=={package.version}"], cwd=folder, check=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for name in ("LICENSE", "ThirdPartyNotices.txt"):
            (folder / "package" / name).write_bytes(wheel.read(f"{package.wheel}/{name}"))


def kept_files(package: Package, unpacked: Path) -> dict[Path, Path]:
    """Path in the repository to path in the unpacked package, for every file that is kept."""
    base = unpacked / package.source
    files = {}
    for pattern in package.patterns:
        matches = sorted(base.glob(pattern))
        if not matches:
            raise SystemExit(f"{package.name}@{package.version} holds no {package.source}/{pattern}")
        files.update({package.target / path.relative_to(base): path for path in matches})
    files[package.target / "LICENSE"] = next(unpacked.glob("LICENSE*"))
    files |= {package.target / path.name: path for path in unpacked.glob("ThirdPartyNotices.txt") if package.wheel}
    for target, path in files.items():
        if package.sha256.get(target.name, found := hashlib.sha256(path.read_bytes()).hexdigest()) != found:
            raise SystemExit(f"{package.name}@{package.version}: {target.name} has the SHA-256 {found}")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    arguments = parser.parse_args()
    different = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, package in enumerate(PACKAGES):
            for target, source in kept_files(package, fetch(package, Path(scratch, str(number)))).items():
                target = ROOT / target
                if arguments.check:
                    if not target.exists() or not filecmp.cmp(source, target, shallow=False):
                        different.append(str(target.relative_to(ROOT)))
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    if different:
        raise SystemExit("not as published: " + ", ".join(different))


if __name__ == "__main__":
    main()

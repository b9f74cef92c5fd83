"""Execute the book's notebooks and store their outputs: two runs give the same bytes.

A notebook runs in a fresh kernel of this Python, in an empty temporary folder, as it will on Colab. What
changes from run to run without meaning anything (widget ids, timings, Python's patch version, the metadata
of editors) is written in one fixed form.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from hashlib import sha1
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

# Sums of floats depend on the number of threads and on the widest instructions of the processor, and training
# magnifies the last digit. With these fixed, pictures are the same bytes on other machines as well.
INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
# So that chapter 11 can import open_clip beside PyTorch's build for CPUs; the file there says why.
STARTUP = str(ROOT / "tests" / "helpers" / "startup")
ENVIRONMENT = INSTRUCTIONS | {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "passive",  # Threads that spin while they wait are in each other's way where cores are few.
    "PYTHONPATH": os.pathsep.join(filter(None, (STARTUP, os.environ.get("PYTHONPATH")))),
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",  # a progress bar prints times
}

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
CELL_METADATA = ("tags", "mystnb")


def notebooks() -> list[Path]:
    """The book's notebooks in reading order."""
    return sorted((ROOT / "book").glob("*.ipynb"))


def _kernel(python: str) -> type[AsyncKernelManager]:
    """Starts kernels of the given Python, whatever kernels the user has installed."""
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]

    class OnePython(AsyncKernelManager):
        kernel_spec = KernelSpec(argv=argv, display_name="Python 3", language="python")

    return OnePython


def run(notebook: nbformat.NotebookNode, python: str = sys.executable, timeout: int = 900) -> None:
    """Execute a notebook in place with the given Python, in an empty folder.

    Raises nbclient's `CellExecutionError` when a cell fails that is not tagged `raises-exception`.
    """
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            kernel_manager_class=_kernel(python),
            timeout=timeout,
            startup_timeout=timeout,  # A minute is too short for a first start on a busy machine.
            resources={"metadata": {"path": folder}},
            store_widget_state=True,
            record_timing=False,
            coalesce_streams=True,
        ).execute()


def normalise(notebook: nbformat.NotebookNode) -> str:
    """Bring an executed notebook into its one fixed form; returns the text to store."""
    widgets = notebook.metadata.get("widgets", {}).get(WIDGET_STATE)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO})
    if widgets and widgets["state"]:
        notebook.metadata["widgets"] = {WIDGET_STATE: widgets}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    taken: set[str] = set()
    for position, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict({k: cell.metadata[k] for k in CELL_METADATA if k in cell.metadata})
        if not re.fullmatch(r"[\w-]{1,64}", cell.get("id", "")) or cell.id in taken:
            cell.id = sha1(f"{position} {cell.source}".encode()).hexdigest()[:8]
        taken.add(cell.id)
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = [_portable(line) for line in output.traceback]
    text = nbformat.writes(notebook)
    for number, model in enumerate(widgets["state"] if widgets else ()):
        text = text.replace(model, f"{number:032x}")
    # Writing sorts the widgets by id, so the new ids need a second pass to stand in order.
    return nbformat.writes(nbformat.reads(text, as_version=4)) + "\n"


def _portable(line: str) -> str:
    """A line of a traceback without the folders of this machine."""
    return re.sub(r"[~/][^\s:\x1b]*/(?:site-packages/|lib/python3\.\d+/|(?=vdmlib/))", "", line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of the book")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a notebook would change")
    arguments = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    os.environ.pop("COLAB_RELEASE_TAG", None)
    failed = False
    for path in arguments.notebooks or notebooks():
        before = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(before, as_version=4)
        start = time.perf_counter()
        try:
            run(notebook)
        except CellExecutionError as error:
            print(f"{path.name}: a cell failed; nothing was written\n{error}", file=sys.stderr)
            failed = True
            continue
        after = normalise(notebook)
        if arguments.check:
            word = "as stored" if after == before else "would change"
            failed |= after != before
        else:
            word = "unchanged" if after == before else "written"
            if after != before:
                path.write_text(after, encoding="utf-8")
        print(f"{path.name}: {word} ({time.perf_counter() - start:.0f} s)", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""Run unit tests and notebooks as other processors would compute them.

A processor's widest instructions and the number of threads decide in which order floats are added up, and so their
last digits. PyTorch, oneDNN, MKL and OpenBLAS can be told to use older instructions than the processor has; whoever
runs this on a new machine sees what an old one would. Nothing that is tested or stored may depend on it.

python tools/book/other_processors.py                      every kind of processor: unit tests, then notebooks
python tools/book/other_processors.py --only sse41-1       one of them
python tools/book/other_processors.py --unit               unit tests alone
"""

import argparse
import os
import subprocess
import sys
import time

import execute_notebooks

INSTRUCTIONS = {
    # Before 2013, and what PyTorch does on a processor that it does not know.
    "sse41": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "avx2": execute_notebooks.INSTRUCTIONS,  # Most laptops, Colab, and every AMD processor before 2022.
    # Whatever this processor has.
    "own": {"MKL_CBWR": "AUTO"},
}
THREADS = (1, 2)
PROCESSORS = {
    f"{name}-{threads}": settings | {"OMP_NUM_THREADS": str(threads)}
    for name, settings in INSTRUCTIONS.items()
    for threads in THREADS
}

UNIT = ("tests/model", "tests/released", "tests/small")
NOTEBOOKS = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "900", "book")


def run(processor: str, what: tuple[str, ...]) -> tuple[bool, str]:
    """Whether pytest passes on a kind of processor, and its last line."""
    threads = int(PROCESSORS[processor]["OMP_NUM_THREADS"])
    side_by_side = ("-n", "2", "--dist", "loadscope") if threads == 1 else ()
    command = [sys.executable, "-m", "pytest", "-q", "--durations=0", *side_by_side, *what]
    inherited = {name: value for name, value in os.environ.items() if name not in INSTRUCTIONS["avx2"]}
    done = subprocess.run(
        command,
        cwd=execute_notebooks.ROOT,
        env=inherited | PROCESSORS[processor],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0:
        print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))) or done.stdout, flush=True)
    return done.returncode == 0, lines[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PROCESSORS, default=list(PROCESSORS), help="default: all of them")
    parser.add_argument("--unit", action="store_true", help="unit tests alone")
    parser.add_argument("--notebooks", action="store_true", help="notebooks alone")
    arguments = parser.parse_args()
    parts = {"unit tests": UNIT} if arguments.unit else {"notebooks": NOTEBOOKS} if arguments.notebooks else {}
    failed = []
    for processor in arguments.only:
        for name, what in (parts or {"unit tests": UNIT, "notebooks": NOTEBOOKS}).items():
            start = time.perf_counter()
            passed, summary = run(processor, what)
            print(
                f"{processor}, {name}: {summary.strip('= ')} ({(time.perf_counter() - start) / 60:.1f} min)", flush=True
            )
            failed += [f"{processor}, {name}"] * (not passed)
    sys.exit(f"failed: {'; '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

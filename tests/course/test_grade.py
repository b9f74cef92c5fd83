"""Forty submissions of every kind in one run of the grader, and what each of them gets."""

import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from vdmlib import grade
from vdmlib.course import ASSIGNMENTS, assignment, feedback, gradescope
from vdmlib.course.submissions import Program, Submission

ROOT = Path(__file__).parents[2]
SMALL = ["--assignment", "small_assignment"]
FULL, HONEST = 9.0, 4.0  # of 9; and for double alone

DOUBLE = "import torch\nfrom torch import nn\n\ndef double(x):\n    return x + x\n"
HALF = "def half(n):\n    return n // 2 if n % 2 == 0 else None\n"
SHIFT = """class Shift(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return x + self.shift
"""
MODULE = """{before}
class Shift(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
{forward}
"""
WRONG = "def half(n):\n    return n - 1\n"  # no property of half holds
GOOD = [DOUBLE, HALF, SHIFT]
STUB = "def half(n):\n    raise NotImplementedError('Write half(n).')\n"

SUBCLASSES = "found = [c for c in object.__subclasses__() if c.__module__.startswith('vdmlib.course')]\n"
# Once it has a frame, or any other way to the one that tries: all that it tells is made true.
LIE = """
def lie(me):
    told = me.tell
    if not hasattr(told, 'lies'):
        def tell(m):
            told([*m[:5], True, '', False] if m[0] == 'result' else m)
        tell.lies = True
        me.tell = tell

def lie_in(frame):
    while frame:
        if type(frame.f_locals.get('self')).__name__ == 'Trial':
            lie(frame.f_locals['self'])
        frame = frame.f_back
"""

# What is tried to get more than the honest part, double, is worth; each beside a wrong half and no Shift.
ATTACKS = {
    "patches-torch": "torch.allclose = torch.equal = lambda *a, **k: True",
    "patches-tensors": "torch.Tensor.__eq__ = lambda a, b: True\nint.__eq__ = lambda a, b: True",
    "patches-in-a-test": "def half(n):\n    torch.allclose = torch.equal = lambda *a, **k: True\n    return n - 1",
    "patches-the-checker": (
        "import vdmlib.exercises, vdmlib.course\nvdmlib.exercises.check = lambda *a: True\n"
        "import vdmlib.course.parts as p\np.Part.points = 100"
    ),
    "patches-the-process": "import vdmlib.course.trial as t\nt.Trial.try_test = lambda self, where, test: None",
    "patches-json": "import json\nlater = json.dumps\njson.dumps = lambda m, **k: later(m).replace('false', 'true')",
    "patches-what-looks-for-it": (
        "import builtins\nbuiltins.vars = lambda o: {}\nbuiltins.setattr = builtins.delattr = lambda *a: None\n"
        "import torch\ntorch.Tensor.__eq__ = lambda a, b: True\nbuiltins.bool = lambda x=None: True"
    ),
    "traces": (
        "import sys\nsys.settrace(lambda f, e, a: f.f_globals.update(bool=lambda x: True))\n"
        "sys.setprofile(lambda f, e, a: f.f_globals.update(bool=lambda x: True))"
    ),
    "patches-builtins": "import builtins\nbuiltins.bool = lambda x=None: True\nbuiltins.isinstance = lambda *a: True",
    "patches-inside": "torch.functional.norm.__code__ = (lambda *a, **k: True).__code__",
    "prints-the-mark": "print('holds', 9, 'of 9 points')\nprint('{\"points\": 9}')\nimport sys\nsys.stdout.flush()",
    "writes-results": (
        'import os\nlines = b\'["tests","half","properties",0,["the half of 0"]]\\n\'\n'
        'lines += b\'["result","half","properties",0,"the half of 0",true,"",false]\\n["end"]\\n\'\n'
        "for number in range(256):\n    try:\n        os.write(number, lines)\n    except OSError:\n        pass"
    ),
    "leaves-with-success": "import os, atexit\natexit.register(lambda: None)\n\ndef half(n):\n    os._exit(0)",
    "leaves-at-once": "import sys\nsys.exit(0)",
    "is-equal-to-all": (
        "class All:\n    def __eq__(self, other): return True\n    __hash__ = None\n\ndef half(n):\n    return All()"
    ),
    "is-a-number-equal-to-all": (
        "class All(int):\n    def __eq__(self, other): return True\n\ndef half(n):\n    return All(3)"
    ),
    "raises-what-passes": "def half(n):\n    raise SystemExit(0)",
    "kills": (
        "import os, signal\nfor number in {os.getppid()} - {0, 1}:  # more would end the tests\n"
        "    try:\n        os.kill(number, signal.SIGTERM)\n    except OSError:\n        pass"
    ),
    "writes-elsewhere": (
        "import os\nfrom pathlib import Path\nfor path in ({folder!r}, {out!r}, {library!r}):\n"
        "    for file in [Path(path) / 'left-behind.txt', Path(path) / 'right-0.ipynb']:\n        try:\n"
        "            file.write_text('0')\n        except OSError:\n            pass"
    ),
    "reads-elsewhere": (
        "import json\nfrom pathlib import Path\nfor path in Path({folder!r}).glob('right-0.ipynb'):\n"
        "    for cell in json.loads(path.read_text())['cells']:\n        exec(''.join(cell['source']))"
    ),
    "looks-into-frames": f"import sys\n{LIE}\ndef half(n):\n    lie_in(sys._getframe())\n    return n - 1",
    "looks-into-the-stack": (
        f"import inspect\n{LIE}\ndef half(n):\n    lie_in(inspect.stack()[1].frame)\n    return n - 1"
    ),
    "looks-into-errors": (
        f"{LIE}\ndef half(n):\n    try:\n        1 / 0\n    except Exception as e:\n"
        "        lie_in(e.__traceback__.tb_frame)\n    return n - 1"
    ),
    "looks-into-generators": (
        f"{LIE}\ndef half(n):\n    def seen():\n        yield one.gi_frame.f_back\n    one = seen()\n"
        "    lie_in(next(one))\n    return n - 1"
    ),
    "looks-into-memory": (
        f"import gc\n{LIE}\ndef half(n):\n    for one in gc.get_objects():\n"
        "        if type(one).__name__ == 'Trial':\n            lie(one)\n    return n - 1"
    ),
    "asks-python-itself": (
        f"import ctypes\n{LIE}\ndef half(n):\n    ask = ctypes.pythonapi.PyEval_GetFrame\n"
        "    ask.restype = ctypes.py_object\n    lie_in(ask())\n    return n - 1"
    ),
    "reads-its-own-process": (
        "def half(n):\n    open('/proc/self/maps').read()\n    return n // 2 if n % 2 == 0 else None"
    ),
    "patches-by-subclasses": (
        f"{SUBCLASSES}for one in found:\n    for name in ('try_test', 'restore', 'properties', 'keep'):\n"
        "        setattr(one, name, lambda self, *a: [self.tell(['result', *a[0], True, '', False])] if a else [])"
    ),
    "spies-on-the-results": (
        "import json, os\nreal, seen = os.write, {}\n\ndef spy(to, data):\n    if data[32:33] == b'[':\n"
        "        seen.update(to=to, mark=data[:32])\n    return real(to, data)\n\nos.write = spy\n\ndef half(n):\n"
        "    for said in ('the half of 0', 'the half of an even number', 'an odd number has none'):\n"
        "        line = ['result', 'half', 'properties', 2718 if n > 2000 else 0, said, True, '', False]\n"
        "        real(seen['to'], seen['mark'] + json.dumps(line).encode() + b'\\n')\n    return n - 1\n\n1 / 0"
    ),
    "changes-what-json-says": (
        "import json\nreal = json._default_encoder.encode\n"
        "json._default_encoder.encode = lambda m: real([*m[:5], True, '', False] if m[0] == 'result' else m)"
    ),
    "is-named-like-torch": (
        "class All:\n    __hash__ = None\n    def __eq__(self, other): return True\n\n"
        "All.__module__ = 'torch'\n\ndef half(n):\n    return All()"
    ),
    "has-a-class-that-lies": (
        "class Kind(type):\n    __dict__ = property(lambda c: {})\n    __hash__ = lambda c: hash(int)\n"
        "    __eq__ = lambda c, other: True\n\nclass All(metaclass=Kind):\n    __hash__ = None\n"
        "    def __eq__(self, other): return True\n\ndef half(n):\n    return All()"
    ),
    "opens-the-module-again": (
        "import sys\nmodule = sys.modules.get('small_assignment') or __import__('small_assignment')\n"
        "for part in module.ASSIGNMENT.parts:\n"
        "    object.__setattr__(part, 'properties', lambda answer, seed: {'it holds': lambda: True})"
    ),
    "stands-in-a-mode": MODULE.format(
        before="from torch.overrides import TorchFunctionMode\n\nclass Mode(TorchFunctionMode):\n"
        "    def __torch_function__(self, function, types, given=(), named=None):\n"
        "        return True if function is torch.equal else function(*given, **(named or {}))\n\nMode().__enter__()",
        forward="        return x - 1 + self.shift",
    ),
    "returns-a-tensor-that-lies": MODULE.format(
        before="class Liar(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, function, types, given=(), named=None):\n"
        "        plain = torch.Tensor.__torch_function__.__func__\n"
        "        return True if function is torch.equal else plain(cls, function, types, given, named or {})\n",
        forward="        return (x - 1 + self.shift).as_subclass(Liar)",
    ),
    "patches-and-puts-back": MODULE.format(
        before="",
        forward="        real = torch.Tensor.min\n        def lie(*given):\n            torch.Tensor.min = real\n"
        "            return torch.tensor(1.0)\n        torch.Tensor.min = lie\n        return x - 1 + 0 * self.shift",
    ),
    "reads-the-solutions": (
        "from pathlib import Path\nsource = min(Path({solutions!r}).glob('assignment_*.py')).read_text()\n"
        "assert 'def ' in source\n\ndef half(n):\n    return n // 2 if n % 2 == 0 else None"
    ),
    "reads-the-checks": "from vdmlib.course import assignment_1 as half",
}
CONNECTS = "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2).close()\n\n"
ODD_FULL = (
    "windows",
    "byte-order-mark",
    "utf-16",
    "wrong-kernel",
    "with-magics",
    "with-errors",
    "with-leaderboard",
    "with-everything",
    "loops",
    "eats-memory",
)


# What an honest notebook may do and the grader must not take amiss.
EVERYTHING = """
import collections, dataclasses, enum, inspect, logging, typing, warnings
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Settings:
    steps: int = 1

Pair = collections.namedtuple("Pair", "a b")

class Named(typing.NamedTuple):
    a: int

warnings.warn("beware")
logging.getLogger("mine").warning("beware")
inspect.signature(inspect.getsource)
for _ in tqdm(range(2)):
    pass
net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
optimizer = torch.optim.AdamW(net.parameters())
for (x,) in DataLoader(TensorDataset(torch.zeros(4, 2)), batch_size=2):
    net(x).sum().backward()
    optimizer.step()
Path("own.txt").write_text("1")
assert open("own.txt").read() == "1" and net(x).shape == (2, 2)
"""


def notebook(cells: list[str], **metadata) -> str:
    made = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for i, source in enumerate(cells)
    ]
    made.insert(0, {"cell_type": "markdown", "id": "m", "metadata": {}, "source": ["# Text\n"]})
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def hand_in(folder: Path, out: Path, port: int):
    """One submission of each kind; one of them looks for a network at this port."""

    def write(name: str, *cells: str, **metadata):
        (folder / f"{name}.ipynb").write_text(notebook([*cells], **metadata), encoding="utf-8")

    for number in range(3):
        write(f"right-{number}", *GOOD)
    for name, attack in ATTACKS.items():
        attack = attack.replace("{folder!r}", repr(str(folder))).replace("{out!r}", repr(str(out.with_suffix(""))))
        attack = attack.replace("{solutions!r}", repr(str(ROOT / "course" / "solutions")))
        write(name, DOUBLE, WRONG, attack.replace("{library!r}", repr(str(ROOT / "vdmlib" / "course"))))
    write("connects", DOUBLE, WRONG, CONNECTS.format(port=port) + HALF)
    (folder / "windows.ipynb").write_bytes(notebook(["\r\n".join(c.split("\n")) for c in GOOD]).encode())
    (folder / "byte-order-mark.ipynb").write_bytes(b"\xef\xbb\xbf" + notebook(GOOD).replace('", "', '",\r\n"').encode())
    (folder / "utf-16.ipynb").write_bytes(notebook(GOOD).encode("utf-16"))
    write("wrong-kernel", *GOOD, kernelspec={"name": "julia-1.9", "language": "julia", "display_name": "J"})
    write("with-magics", "%pip install x\n!ls\nif True:\n    %matplotlib inline", "%%bash\nls", *GOOD)
    write("with-errors", "1 / 0", "def broken(:", "raise SystemExit", *GOOD, "undefined")
    write("with-leaderboard", "from vdmlib.course.leaderboard import leaderboard\nleaderboard(None, clips=4)", *GOOD)
    write("with-everything", EVERYTHING, *GOOD)
    write("loops", "while True:\n    pass", *GOOD)
    write("eats-memory", "hog = [bytearray(2**30) for _ in range(20)]", *GOOD)
    write("loops-in-a-part", DOUBLE, HALF.replace(":\n", ":\n    while n > 2000: pass\n", 1), SHIFT)
    write("leaves-a-thread", "import threading\nthreading.Timer(60, print).start()", *GOOD)
    write("empties-what-it-is-given", "def double(x):\n    return x.zero_()")
    write("stub", DOUBLE, STUB, SHIFT)
    write("renamed", DOUBLE, HALF.replace("half", "halve"), SHIFT)
    write("learned-by-heart", DOUBLE, "def half(n):\n    return {4: 2, 0: 0}.get(n)", SHIFT)
    write("deleted-and-changed", DOUBLE, HALF, SHIFT, "def check(*a):\n    return 9\ncheck('double', 9)")
    write("no-code")
    write("=formula|<b>", *GOOD)
    (folder / "torn.ipynb").write_text(notebook(GOOD)[:-40])
    (folder / "torn.zip").write_bytes(b"PK\x03\x04 and no more")
    (folder / "same.ipynb").write_text(notebook(GOOD))
    with zipfile.ZipFile(folder / "same.zip", "w") as archive:
        archive.writestr("work/adapters.py", "from mine import twice as double\nfrom mine import *\n")
        archive.writestr("work/mine.py", "\n".join(GOOD).replace("def double", "def twice").replace("\n", "\r\n"))
        archive.writestr("../escaped.py", "1")
    (folder / "adapted").mkdir()
    (folder / "adapted" / "adapters.py").write_text("import mine\nADAPTERS = {'double': mine.f, 'half': mine.g}\n")
    (folder / "adapted" / "mine.py").write_text("def f(x):\n    return 2 * x\n\n" + HALF.replace("half", "g"))


def printed(folder: Path, out: Path, *more: str) -> str:
    """What the command prints, run in this process: it imports PyTorch only for those that run submissions."""
    words = [folder, "--assignment", "small_assignment", "--out", out, "--seconds", "4", "--megabytes", "1500", *more]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")]))
        grade.main([*map(str, words)])
    return said.getvalue()


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The folder of submissions, the table, and what it says of each student."""
    base = tmp_path_factory.mktemp("course")
    folder, out = base / "submissions", base / "grades.csv"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        hand_in(folder, out, server.getsockname()[1])
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        begin = time.monotonic()
        printed(folder, out)
    seconds = time.monotonic() - begin
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with out.open(encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    return folder, out, rows, seconds


def page(graded, name: str) -> str:
    return (graded[1].with_suffix("") / f"{name}.md").read_text(encoding="utf-8")


def test_all_are_graded_in_one_run(graded, record_property):
    record_property("measured", f"{len(graded[2])} submissions graded in one run: {graded[3]:.0f} s")
    assert len(graded[2]) == len(list(graded[0].iterdir())) >= 40
    assert all(row["of"] == "9" for row in graded[2].values())


@pytest.mark.parametrize("name", ["right-0", "right-1", "right-2", "deleted-and-changed", *ODD_FULL])
def test_a_right_answer_gets_all_points_in_whatever_file_it_comes(graded, name):
    assert float(graded[2][name]["points"]) == FULL, page(graded, name)


def test_the_leaderboard_is_left_to_a_person(graded):
    assert graded[2]["with-leaderboard"]["notes"] == ""


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_gets_more_than_the_honest_part(graded, name):
    points = {part: float(graded[2][name][part]) for part in ("double", "half", "Shift")}
    assert points == {"double": HONEST, "half": 0.0, "Shift": 0.0}, page(graded, name)


def test_there_is_no_network_where_nothing_else_is_said(graded):
    kept_from = "not kept from network" not in graded[2]["connects"]["look at"]
    assert float(graded[2]["connects"]["half"]) == (0 if kept_from else 3), page(graded, "connects")


@pytest.mark.parametrize(
    ("name", "noticed"),
    [
        ("patches-torch", "replaces torch.allclose"),
        ("patches-inside", "tries __code__"),
        ("leaves-with-success", "os._exit"),
        ("writes-results", "os.write"),
        ("reads-the-checks", "assignment_1"),
        ("looks-into-frames", "tries sys._getframe"),
        ("looks-into-memory", "tries gc.get_objects"),
        ("opens-the-module-again", "tries a file of the checks"),
        ("leaves-a-thread", "replaces one thread with several"),
    ],
)
def test_attacks_are_named_for_a_person_to_look_at(graded, name, noticed):
    assert noticed in graded[2][name]["look at"]
    assert "replaces" not in graded[2]["right-0"]["look at"]


def test_who_leaves_a_thread_or_changes_what_it_is_given_is_told(graded):
    assert graded[2]["leaves-a-thread"]["points"] == "0"
    assert "it replaced one thread with several" in page(graded, "leaves-a-thread")
    assert float(graded[2]["empties-what-it-is-given"]["points"]) <= 2  # of an empty tensor nothing is lost
    assert "it changes a tensor that it is given: work on a copy" in page(graded, "empties-what-it-is-given")


def test_part_of_the_properties_earns_part_of_the_points(graded):
    assert graded[2]["learned-by-heart"]["half"] == "2"  # 0 and odd numbers are right with every seed
    assert graded[2]["loops-in-a-part"]["half"] == "1" and graded[2]["loops-in-a-part"]["Shift"] == "2"
    assert "longer than 4 seconds" in page(graded, "loops-in-a-part")
    assert graded[2]["adapted"]["points"] == "7"


def test_pages_say_what_fails_with_a_hint_and_nothing_of_hidden_tests(graded):
    said = page(graded, "learned-by-heart")
    assert "holds · the half of 0" in said and "**fails** · the half of an even number" in said
    assert "There is no `half`" in page(graded, "renamed") and "Is it `halve`?" in page(graded, "renamed")
    assert "Not written yet." in page(graded, "stub")
    assert "hint: what does it return for 7?" in page(graded, "is-equal-to-all")
    assert "cell 1: ZeroDivisionError" in page(graded, "with-errors")
    assert "cannot be read" in page(graded, "torn.ipynb") and "cannot be read" in page(graded, "torn.zip")
    for file in graded[1].with_suffix("").glob("*.md"):
        assert not re.search(r"lambda|secret_input|torch\.tensor\(\[seed", file.read_text(encoding="utf-8")), file


def test_two_submissions_with_one_name_are_two(graded):
    assert graded[2]["same.ipynb"]["points"] == graded[2]["same.zip"]["points"] == "9"
    assert not (graded[0].parent / "escaped.py").exists()


def test_names_are_no_formulas_and_no_markup(graded):
    assert "'=formula b" in graded[2] and "<b>" not in graded[1].read_text(encoding="utf-8")


def test_the_class(graded):
    said = graded[1].with_suffix(".md").read_text(encoding="utf-8")
    assert f"{len(graded[2])} submissions" in said and re.search(r"\| half \| the half of 0 \| \d+ of \d+ \|", said)


def test_the_second_run_grades_what_is_new_or_changed(graded):
    folder, out, rows, _ = graded
    (folder / "new.ipynb").write_text(notebook(GOOD))
    (folder / "stub.ipynb").write_text(notebook(GOOD))
    assert printed(folder, out, "--jobs", "1").startswith(f"2 graded, {len(rows) - 1} as before")
    with out.open(encoding="utf-8") as file:
        after = {row["student"]: row for row in csv.DictReader(file)}
    assert after["stub"]["points"] == after["new"]["points"] == "9" and after["renamed"] == rows["renamed"]


@pytest.mark.parametrize("number", ASSIGNMENTS)
def test_the_real_assignments_are_graded(number, tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    shutil.copy(ROOT / f"course/solutions/assignment_{number}.ipynb", folder / "solved.ipynb")
    shutil.copy(ROOT / f"course/assignments/{number}/assignment.ipynb", folder / "untouched.ipynb")
    grade.main([str(folder), "--assignment", str(number), "--out", str(tmp_path / "grades.csv"), "--jobs", "1"])
    with (tmp_path / "grades.csv").open(encoding="utf-8") as file:
        solved, untouched = csv.DictReader(file)
    assert solved["points"] == solved["of"] and untouched["points"] == "0"
    assert solved["notes"] == untouched["notes"] == ""
    for row in (solved, untouched):
        assert re.sub(r"not kept from \w+(?:; )?", "", row["look at"]) == ""


def test_what_a_part_rules_out_is_named_where_it_is_used():
    text = "# F.conv1d\ndef temporal_conv(x, weight, bias):\n    'no F.conv1d'\n    return F.conv1d(x, weight, bias)\n"
    helper = "def helper(x):\n    return F.conv2d(x)\n\n" + text.replace("F.conv1d(x", "helper(x")
    for source, said in ((text, ["temporal_conv uses F.conv1d"]), (helper, [])):
        grade = feedback.grade_of(Submission("a", "a"), Program((source, "def torn(")), {}, assignment(1), 0.0)
        assert grade.unusual == said


def test_the_python_of_gradescope_is_one_that_the_project_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = set(re.findall(r"\bpython([\d.]+)", gradescope.SETUP))
    assert len(versions) == 1 and SpecifierSet(project["requires-python"]).contains(versions.pop() + ".0")
    assert f'requires-python = "{project["requires-python"]}"' in gradescope.PROJECT


def test_the_zip_for_gradescope_grades_in_its_layout(tmp_path):
    """As its documentation has it: /autograder with source, submission, results, and run_autograder beside them."""
    archive = tmp_path / "autograder.zip"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    grade.main(["--assignment", "small_assignment", "--gradescope", str(archive)])
    for name in ("source", "submission", "results", "environment/bin"):
        (tmp_path / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        assert {"setup.sh", "run_autograder", "pyproject.toml", "vdmlib/grade.py"} <= set(file.namelist())
        assert file.getinfo("run_autograder").external_attr >> 16 & 0o111
        file.extractall(tmp_path / "source")
    assert subprocess.run(["bash", "-n", tmp_path / "source" / "setup.sh"], check=False).returncode == 0
    (tmp_path / "run_autograder").write_bytes((tmp_path / "source" / "run_autograder").read_bytes())
    (tmp_path / "submission" / "mine.ipynb").write_text(notebook([DOUBLE, WRONG, SHIFT]))
    (tmp_path / "submission" / "a-try.ipynb").write_text(notebook([DOUBLE]))
    (tmp_path / "submission" / "as-it-was.ipynb").write_text(notebook([DOUBLE, STUB, SHIFT]))
    (tmp_path / "environment" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "environment" / "bin" / "python").chmod(0o755)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "source"), str(ROOT / "tests" / "helpers")])
    done = subprocess.run(["bash", tmp_path / "run_autograder"], capture_output=True, text=True, env=environment)
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    assert found["score"] == 6 and [test["score"] for test in found["tests"]] == [4, 0, 2], done.stderr
    assert [test["max_score"] for test in found["tests"]] == [4, 3, 2] and "lambda" not in json.dumps(found)
    allowed = {"score", "max_score", "status", "name", "name_format", "number", "output", "output_format", "tags"}
    assert all(set(test) <= allowed and test["status"] in ("passed", "failed") for test in found["tests"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", *SMALL], "error: nowhere does not exist: pass the folder of the submissions."),
        (SMALL, "error: SUBMISSIONS is missing: pass the folder of the submissions."),
        (["tests", "--assignment", "7"], "error: assignment is 7, but must be one of 1, 2, 3."),
        (["tests", "--jobs", "0"], "error: jobs is 0: use a whole number from 1 to 64."),
        (
            ["tests", "--assignment", "json"],
            "error: ASSIGNMENT of json is NoneType: make it an Assignment from vdmlib.course.",
        ),
    ],
)
def test_mistakes_are_said_in_one_sentence(words, said, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=f"^{re.escape(said)}$"):
        grade.main(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "grades"], "out is grades: name a file that ends in .csv."),
        (["--out", "taken.csv"], "out is taken.csv: name a file that ends in .csv."),
        (["--out", "notes.txt/grades.csv"], "notes.txt cannot hold what is to be written (File exists): name another"),
        (["--results", "notes.txt/r.json"], "notes.txt cannot hold what is to be written (File exists): name another"),
        (["--results", "results"], "results is results: name a file that ends in .json."),
    ],
)
def test_where_nothing_can_be_written_nothing_is_graded(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grade, "_run", lambda *_: pytest.fail("work began"))
    (tmp_path / "notes.txt").write_text("no folder")
    (tmp_path / "taken.csv").mkdir()
    (tmp_path / "handed in").mkdir()
    (tmp_path / "handed in" / "mine.ipynb").write_text(notebook([DOUBLE]))
    with pytest.raises(SystemExit, match=f"^error: {re.escape(said)}"):
        grade.main(["handed in", *SMALL, *words])


def test_a_teacher_without_forks_is_told(monkeypatch):
    """As on Windows, where neither these modules nor these names exist."""
    monkeypatch.setitem(sys.modules, "resource", None)
    for module, names in ((os, ("fork", "geteuid", "setsid")), (signal, ("setitimer", "SIGKILL"))):
        for name in names:
            monkeypatch.delattr(module, name)
    for path in [ROOT / "vdmlib" / "grade.py", *(ROOT / "vdmlib" / "course").glob("[!_]*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        spec = importlib.util.spec_from_file_location(name, path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    with pytest.raises(SystemExit, match="Windows has not: use Linux, macOS or WSL"):
        grade.main(["tests"])

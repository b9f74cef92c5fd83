"""A hundred and more damaged and hostile files, given to each function that reads files of weights.

None executes anything, takes more memory than its size, or hangs.
"""

import io
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest
import torch
from damaged_files import randomly_damaged
from safetensors.torch import save
from tiny_networks import tiny_config, tiny_network

from vdmlib import small
from vdmlib.released.checkpoints import unet_to_videocrafter

CONFIG = tiny_config(model_channels=32, head_channels=8, channel_multipliers=(1,), attention_factors=(), use_fps=False,
                     temporal_attention=False, initial_temporal_attention=False)  # fmt: skip
SLACK = 6e6  # Bytes: Python's own objects. The files here have about a megabyte, what they ask for is far more.
HUGE = 2**40

# Reads each file of each reader's folder and tells what came of it: the error, bytes at the peak, seconds, and what it
# set off.
LOAD = """
import gc, json, pathlib, re, sys, time
from test_mutated_files import CONFIG
from vdmlib import small
from vdmlib.released.checkpoints import load_unet

READERS = {
    "load_unet": lambda path: load_unet(path, CONFIG),
    "resume": lambda path: small.training.resume(path, small.TrainingConfig()),
    "read_weights": small.weights.read_weights,
}

def kilobytes(key):
    return int(re.search(rf"^{key}:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text(), re.M)[1])

set_off = []
DEEDS = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.dlopen", "pty.", "urllib.")
HARMLESS = ("os.listdir", "os.scandir")

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and any(mode in arguments[1] for mode in "wax+")
    if writes or (event.startswith(DEEDS) and event not in HARMLESS):
        set_off.append(event)

sys.addaudithook(watch)
results = {}
gc.freeze()  # What is there for all files need not be looked through after each of them.
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*")):
    gc.collect()
    set_off.clear()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    set_off.clear()
    before, reserved, start = kilobytes("VmRSS"), kilobytes("VmPeak"), time.perf_counter()
    try:
        READERS[path.parent.name](path)
        problem = None
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    results[f"{path.parent.name}/{path.name}"] = {
        "problem": problem,
        "bytes": 1024 * (kilobytes("VmHWM") - before),
        "reserved": 1024 * (kilobytes("VmPeak") - reserved),
        "seconds": time.perf_counter() - start,
        "set off": sorted(set(set_off)),
    }
json.dump(results, sys.stdout)
"""


# How the good files of each reader end, and what they hold besides weights; what it answers a bad one with.
READ = {
    "load_unet": ("", lambda settings: {}),
    "resume": (".ckpt", lambda settings: settings),
    "read_weights": (".safetensors", lambda settings: {}),
}
# What fits no network, but can be read: the caller compares names and shapes.
READABLE = {
    "resume/huge view.ckpt",
    "read_weights/long name.safetensors",
    "read_weights/many names.safetensors",
}
SAYS = {"load_unet": "CheckpointError", "resume": "ValueError", "read_weights": "ValueError"}


class Run:
    """Unpickled without care, it calls a function."""

    def __init__(self, function: Callable, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def with_torch(content: object, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def repacked(archive: bytes, change: Callable[[str, bytes], list[tuple[str, bytes]]], compression=zipfile.ZIP_STORED):
    """An archive of PyTorch's with other members."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            for changed in change(name, old.read(name)):
                new.writestr(*changed)
    return file.getvalue()


def in_pickle(change: Callable[[bytes], bytes]):
    return lambda name, data: [(name, change(data) if name.endswith("data.pkl") else data)]


def with_header(change: Callable[[dict], dict | str], original: bytes) -> bytes:
    """A safetensors file with another header."""
    length = int.from_bytes(original[:8], "little")
    changed = change(json.loads(original[8 : 8 + length]))
    header = (changed if isinstance(changed, str) else json.dumps(changed)).encode()
    return len(header).to_bytes(8, "little") + header + original[8 + length :]


def hostile(weights: dict[str, torch.Tensor], trap: str, besides: dict) -> Iterator[tuple[str, bytes]]:
    """Files made to do harm, by name; ``besides`` is what else a checkpoint holds."""
    first, safe, weights = next(iter(weights)), save(weights), weights | besides
    archive, old = with_torch(weights), with_torch(weights, old=True)
    deeds = {
        "system": Run(os.system, f"touch {trap}"),
        "mkdir": Run(os.mkdir, trap),
        "eval": Run(eval, f"open({trap!r}, 'w')"),
        "exec": Run(exec, f"import os; os.mkdir({trap!r})"),
        "popen": Run(subprocess.Popen, ["touch", trap]),
        "nested": Run(getattr, Run(__import__, "os"), "getpid"),
        "loads": Run(pickle.loads, pickle.dumps(Run(os.mkdir, trap))),
        "load": Run(torch.load, trap),
    }
    for name, deed in deeds.items():
        yield f"runs {name}.ckpt", with_torch(weights | {"x": deed})
        yield f"runs {name}, old.ckpt", with_torch({"state_dict": weights, "x": deed}, old=True)
        yield f"runs {name}, bare.ckpt", pickle.dumps(deed, 2)
    yield "bytes, bare.ckpt", pickle.dumps(Run(bytearray, 10**10), 2)
    for is_old in (False, True):
        yield f"bytes, {is_old}.ckpt", with_torch(weights | {"x": Run(bytearray, 10**10)}, is_old)

    number = weights[first].numel()
    short = b"M" + struct.pack("<H", number) if number < 2**16 else b"J" + struct.pack("<i", number)
    assert short in old and number > 255
    for bits in (31, 63):
        long = b"\x8a\x08" + struct.pack("<q", 2**bits - 1)
        yield f"storage of 2^{bits}, old.ckpt", old.replace(short, long)
        yield (
            f"storage of 2^{bits}.ckpt",
            repacked(archive, in_pickle(lambda data, long=long: data.replace(short, long))),
        )
    yield "compressed.ckpt", repacked(archive, lambda *member: [member], zipfile.ZIP_DEFLATED)
    bomb = b"\x80\x02]q\x00(" + b"}" * 10**8 + b"e."
    yield "bomb.ckpt", repacked(archive, in_pickle(lambda _: bomb), zipfile.ZIP_DEFLATED)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = repacked(archive, lambda *member: [member, member])
    yield "member twice.ckpt", twice
    directory = archive.rindex(b"PK\x01\x02")
    sizes = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    yield "large member.ckpt", archive[: directory + 20] + sizes + archive[directory + 28 :]
    yield "huge view.ckpt", with_torch(weights | {first: torch.zeros(1).expand(HUGE)})
    itself = {}
    itself["state_dict"] = itself
    yield "holds itself.ckpt", with_torch(itself)
    yield "endless list, old.ckpt", old[:15] + b"\x80\x02" + b"]" * 10**5

    def shaped(shape: list, *offsets: int) -> bytes:
        return with_header(lambda h: h | {first: h[first] | {"shape": shape, "data_offsets": list(offsets)}}, safe)

    start, end = json.loads(safe[8 : 8 + int.from_bytes(safe[:8], "little")])[first]["data_offsets"]
    yield "huge shape.safetensors", shaped([HUGE], start, end)
    yield "huge shape that overflows.safetensors", shaped([2**32, 2**32, 2**32], start, end)
    yield "negative shape.safetensors", shaped([-1, 4], start, end)
    yield "huge and out of range.safetensors", shaped([HUGE], 0, 4 * HUGE)
    yield "out of range.safetensors", shaped([number], start + len(safe), end + len(safe))
    yield "overlapping.safetensors", shaped([number], start + 8, end + 8)
    yield "backwards.safetensors", shaped([number], end, start)
    yield "unknown type.safetensors", with_header(lambda h: h | {first: h[first] | {"dtype": "F999"}}, safe)
    yield (
        "name twice.safetensors",
        with_header(lambda h: json.dumps(h)[:-1] + f', "{first}": {json.dumps(h[first])}' + "}", safe),
    )
    yield "deep.safetensors", with_header(lambda h: '{"a":' * 10**5, safe)
    yield "deep list.safetensors", with_header(lambda h: '{"a":' + "[" * 10**5, safe)
    yield "long name.safetensors", with_header(lambda h: h | {"a." * 10**5: h.pop(first)}, safe)
    for length in (0, 1, 2**24, 2**40, 2**63, 2**64 - 1):
        yield f"header of {length}.safetensors", length.to_bytes(8, "little") + safe[8:]
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    names = {f"{i}.{i + 1}.{i + 2}.weight": empty for i in range(2000)}
    yield "many names.safetensors", with_header(lambda h: names | h, safe)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads the peak memory from Linux's /proc")
def test_no_file_executes_grows_or_hangs(tmp_path):
    trap, draw, files = tmp_path / "sprung", random.Random(0), {}
    weights, settings = unet_to_videocrafter(tiny_network(CONFIG)), {"config": asdict(small.TrainingConfig())}
    for reader, (suffix, besides) in READ.items():
        pieces = weights | besides(settings)
        good = {
            "a.ckpt": with_torch(pieces),
            "b, old.ckpt": with_torch(pieces, old=True),
            "c.safetensors": save(weights),
        }
        ours = {f"0 good {name}": data for name, data in good.items() if name.endswith(suffix)}
        for name, data in ours.copy().items():
            ours |= {f"damaged {i} {name[7:]}": randomly_damaged(data, draw) for i in range(40)}
        files |= {
            f"{reader}/{name}": data
            for name, data in (ours | dict(hostile(weights, str(trap), besides(settings)))).items()
        }
    assert len(files) > 3 * 90
    for name, data in files.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "files")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    results = json.loads(ran.stdout)
    assert not trap.exists()
    wrong = {}
    for path, result in results.items():
        (reader, name), problem, size = path.split("/"), result["problem"], len(files[path])
        faults = {
            "fails": name.startswith("0 good") and problem is not None,
            # A flipped bit may be a weight's.
            "passes": problem is None and path not in READABLE and not name.startswith(("0 good", "damaged")),
            "speaks": problem is not None and not re.fullmatch(rf"{SAYS[reader]}: .{{20,1500}}[.)]", problem),
            "acts": result["set off"],
            "hangs": result["seconds"] > 10,
            # The first of a kind also pays for what its reader imports.
            "grows": not name.startswith("0 good") and result["bytes"] > size + SLACK,
            "reserves": not name.startswith("0 good") and result["reserved"] > size + 10 * SLACK,
        }
        wrong |= {f"{path} {fault}": (size, result) for fault, found in faults.items() if found}
    assert not wrong

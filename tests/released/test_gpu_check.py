"""The check of a GPU, on the CPU at tiny size; and what one would find on a GPU, with made-up numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_it_runs_the_same_path_at_tiny_size(tmp_path):
    command = ["tools/measure/gpu_check.py", "--device=cpu", "--steps=2", f"--json={tmp_path / 'check.json'}"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ["PYTHONPATH"])),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr + done.stdout
    printed, results = done.stdout, json.loads((tmp_path / "check.json").read_text())
    assert results["passed"] is True and f"all {len(results['checks'])} checks passed" in printed
    assert results["model"] == "tiny" and results["device"].startswith("CPU")
    assert [row["file"] for row in results["loading"]] == [".safetensors", ".ckpt"]
    rows = {row["options"]: row for row in results["rows"]}
    assert len(rows) == 6
    for name, row in rows.items():
        assert name in printed
        assert {f"{name}: finite, and the same video", f"{name}: the estimate fits"} < results["checks"].keys()
        assert row["seconds per step"] > 0 and row["estimate / measured"] == pytest.approx(1, abs=0.15)
        assert row["difference"] < 1e-2
    assert 0 < results["half against float32"]["difference"] < results["half against float32"]["allowed"]
    assert results["compile"]["graphs"] == 1 and results["compile"]["difference"] < 1e-4


def test_it_fails_where_something_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--checks", "precision"])
    monkeypatch.setattr(gpu_check.Machine, "sample", lambda *_, **__: torch.zeros(1, 4, 3, 8, 8))
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 1 and "FAILED: half precision is close to float32" in capsys.readouterr().out


def test_peaks_are_held_against_each_other():
    peaks = dict(zip(gpu_check.OPTIONS, (8.0, 7.0, 7.5, 8.0, 6.0, 3.0), strict=True))
    assert all(gpu_check.compared(peaks).values()) and len(gpu_check.compared(peaks)) == 3
    assert gpu_check.compared({"fastest": 12.5}) == {"fastest: under 12 GB": False}
    assert gpu_check.compared({"decode one frame": 8.0}) == {}
    assert not gpu_check.compared(peaks | {"sliced attention": 9.0})["no option needs more than none"]
    assert not gpu_check.compared(peaks | {"offload networks": 2.0})["offload saves memory"]


def test_help_and_mistakes_are_answered_without_pytorch():
    for name in ("gpu_check", "benchmark"):
        command = [sys.executable, "-X", "importtime", f"tools/measure/{name}.py"]
        for options, status in (["--help"], 0), (["--steps", "1"], 2):
            done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
            assert done.returncode == status and "| torch\n" not in done.stderr
            assert "use 2 or more" in done.stderr or "usage:" in done.stdout

"""Training under kill -9 at random moments, while steps are made and while checkpoints are written.

``KILLS=50 pytest tests/small/test_kills.py`` does it fifty times.
"""

import json
import os

from tiny_training import run_script

KILLS = int(os.environ.get("KILLS", 3))

HUNT = """
import json, random, time

config, chance = tiny(steps=24, log_every=8, checkpoint_seconds=0.0), random.Random(0)
data.handwriting("train")  # once, for all the processes that are forked from this one
made = os.path.join(folder, "made")


def note(step, model):
    with open(made, "w") as file:
        file.write(str(step + 1))


def start(here):
    child = os.fork()
    if child == 0:
        run(config, os.path.join(folder, here), callback=note)
        os._exit(0)
    return child


def checkpoint(here):
    path = os.path.join(folder, here, "checkpoint.pt")
    return torch.load(path) if os.path.exists(path) else dict(step=0)


began = time.monotonic()
os.waitpid(start("quiet"), 0)
whole = time.monotonic() - began
quiet, killed, lives, lost, finished = checkpoint("quiet"), 0, 0, [], 0
while killed < kills or not finished:
    here = f"hunted {finished}"
    child, born = start(here), time.time()
    if killed < kills:
        time.sleep(chance.uniform(0, whole / 2))
        os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] == signal.SIGKILL:
        killed += 1
        path = os.path.join(folder, here, "checkpoint.pt")
        saved = max(born, os.path.getmtime(path)) if os.path.exists(path) else born
        steps = int(open(made).read() or 0) if os.path.exists(made) else 0
        lost.append((steps - checkpoint(here)["step"], time.time() - saved))
        continue
    finished += 1
    ours = checkpoint(here)
    assert [r["loss"] for r in ours["log"]] == [r["loss"] for r in quiet["log"]]
    for kind in ("model", "average"):
        for name, value in quiet[kind].items():
            assert torch.equal(value, ours[kind][name]), name
    os.remove(made)
steps, seconds = (max(values) for values in zip(*lost))
print(json.dumps(dict(killed=killed, finished=finished, steps=steps, seconds=seconds)))
"""


def test_killed_at_random_moments_a_run_loses_little_and_ends_as_if_nothing_had_happened(tmp_path):
    done = run_script(tmp_path / "hunt.py", HUNT, timeout=300 + 60 * KILLS, folder=str(tmp_path), kills=KILLS)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(result)
    assert result["killed"] >= KILLS and result["finished"] >= 1
    # With a checkpoint after every step, no more than the step that was not saved yet.
    assert result["steps"] <= 1 and result["seconds"] < 60

"""Where a given picture turns up in the clip, in models that were trained on first frames and on random ones.

    mkdir -p runs/random0 runs/random1
    cp vdmlib/small/shipped/t2v.* vdmlib/small/shipped/autoencoder.* runs/random0
    cp vdmlib/small/shipped/t2v.* vdmlib/small/shipped/autoencoder.* runs/random1
    python -m vdmlib.train i2v --set given_frame=random --folder runs/random0 --weights runs/random0
    python -m vdmlib.train i2v --set given_frame=random seed=1 --folder runs/random1 --weights runs/random1
    python tools/measure/given_frame.py runs/random0 runs/random1

Real clips of held-out handwriting: every frame of each is given once, with its caption, and each frame of what is made
is compared with it. The shipped model comes first. Clips and noise are the same for all models.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from small_evaluate import draw_prompts
from torch import Tensor
from torch.nn.functional import one_hot

from vdmlib import small
from vdmlib.small import data, judge
from vdmlib.small.weights import WEIGHTS, write_whole

ABOUT = (
    "Of image-to-video models by the frame that they were given in training. For each frame of a real clip that is "
    "given (rows) the decibels of each frame of what is made (columns), against the given one; the share of clips in "
    "which each frame is the likest (has the most decibels); the share that is right; and how like the glyphs are to "
    "the given one, and to another clip's."
)


def decibels(made: Float[Tensor, "b f 3 h w"], given: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
    """Of each frame against the given one; the range of pixels is 2 wide."""
    return 10 * torch.log10(4 / (made - given[:, None]).square().mean(dim=(2, 3, 4)))


@torch.no_grad()
def examine(model: small.Pipeline, prompts: Sequence[data.Prompt], real: Tensor, **settings: float) -> dict:
    """What comes of every frame of the real clips."""
    classifier, found = small.load_classifier(), {"decibels": [], "likest": [], "right": [], "hand": []}
    captions, fps = [prompt.caption for prompt in prompts], [prompt.fps for prompt in prompts]
    for number in range(data.FRAMES):
        made = model.generate(captions, fps, real[:, number], **settings)
        likeness = decibels(made, real[:, number])
        right = judge.right_answers(classifier, made, prompts)
        right["everything"] = torch.stack(list(right.values())).all(dim=0)
        likest = one_hot(likeness.argmax(dim=1), data.FRAMES)
        found["decibels"].append([round(float(x), 2) for x in likeness.mean(dim=0)])
        found["likest"].append([round(float(x), 4) for x in likest.float().mean(dim=0)])
        found["right"].append({name: round(float(answers.float().mean()), 4) for name, answers in right.items()})
        found["hand"].append({who: round(x, 4) for who, x in judge.kept_handwriting(made, real[:, number]).items()})
        print(number, *(row[-1] for row in found.values()), flush=True)
    return found


def main(arguments: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders with weights of i2v, beside the shipped ones")
    parser.add_argument("--clips", type=int, default=60, help="real clips (default: 60)")
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps (default: 20)")
    parser.add_argument("--json", type=Path, default=WEIGHTS / "given_frame.json", help="what to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    prompts = draw_prompts("seen", options.clips, seed=6)
    glyphs = data.draw_glyphs(prompts, "test", torch.Generator().manual_seed(6))
    real, guidance = data.clips_of(prompts, glyphs).video, small.read_card("i2v")["guidance_scale"]
    settings = {"steps": options.steps, "eta": 0.0, "guidance_scale": guidance}
    runs = []
    for folder in (WEIGHTS, *options.folders):
        card = small.read_card("i2v", folder)
        about = {"command": card["command"], "given_frame": card["config"].get("given_frame", "first")}
        print(about["command"])
        runs.append(about | examine(small.load_pretrained("i2v", folder), prompts, real, **settings))
    found = {"about": ABOUT, "clips": options.clips, **settings, "torch": torch.__version__, "runs": runs}
    write_whole({options.json: (json.dumps(found, ensure_ascii=False) + "\n").encode()})


if __name__ == "__main__":
    main()

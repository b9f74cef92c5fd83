"""Train the comparisons of chapter 10 and write what they measured into ``vdmlib/small/shipped/experiments.json``.

All runs have the same loss, batches, noise, learning rates and number of steps, and differ in what their names say. A
run that was stopped goes on when the same command is given again. When all chosen runs are finished, a training step
and the sampling of a clip are timed, in turns, in seconds of one thread's processor time; or, with ``--seeds``, each
run's losses are taken at many noise levels, and its clips are judged.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import MagicMock

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from vdmlib import UNet3DConfig, small
from vdmlib.diffusion import Prediction
from vdmlib.embeddings import EmbeddingMLP, sinusoidal_embedding
from vdmlib.sampling import draw_noise, noise_streams, sample_ddim
from vdmlib.small import data, judge, training
from vdmlib.small.settings import CONFIGS, TrainingConfig
from vdmlib.small.stages import DenoiserStage

ABOUT = (
    "Runs with the same batches, noise, learning rates and number of steps, but for what their names say. In a log, "
    "'direction 800' is the error in v on 48 held-out clips at noise level 800 with the direction made wrong, 'correct "
    "800' with all of it right. By seed: the log's end, errors by noise level with all of it right and with the "
    "direction made wrong, and the share that is right of 60 clips. "
    "Seconds are processor time of one thread, of a training step of 8 clips and of a clip in 25 guided DDIM steps."
)
LEVELS = (100, 300, 500, 700, 800, 900, 950, 960, 970, 980)
PEER = "video-diffusion-pytorch"
PEER_CHANNELS = 42  # the width at which it has about as many parameters as small_unet()
STEPS = 1000  # of a run; what longer ones give is kept beside it, with their steps in the name


class DigitsAnywhere(data.MovingDigits):
    """The same clips, each moved to a random place; the picture wraps around at its edges.

    In every frame every place is as likely as any other: no frame by itself tells which way the digit goes.
    """

    def batch(self, indices: Sequence[int]) -> data.Clips:
        clips = super().batch(indices)
        moved = []
        for index, video in zip(indices, clips.video, strict=True):
            place = torch.randint(self.size, (2,), generator=self.generator(index, stream=2)).tolist()
            moved.append(video.roll(place, dims=(-2, -1)))
        return replace(clips, video=torch.stack(moved))


class PeerUNet(nn.Module):
    """``Unet3D`` of video-diffusion-pytorch, called like :class:`vdmlib.UNet3D`.

    Its condition is one vector: here the mean of the text tokens, as the package makes it of BERT's tokens, plus the
    embedded frame rate.
    """

    def __init__(self, channels: int = PEER_CHANNELS):
        super().__init__()
        # Torchvision serves the package's data loader only, and need not be installed.
        sys.modules.setdefault("torchvision", MagicMock())
        from video_diffusion_pytorch import Unet3D

        self.config = small.small_unet()
        width = self.config.context_channels
        self.fps_mlp = EmbeddingMLP(width, width)
        self.unet = Unet3D(channels, cond_dim=width, channels=self.config.in_channels, dim_mults=(1, 2))

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        timesteps: Num[Tensor, " b"],
        context: Float[Tensor, "b n d"],
        fps: Num[Tensor, " b"],
    ) -> Float[Tensor, "b f c h w"]:
        condition = context.mean(dim=1) + self.fps_mlp(sinusoidal_embedding(fps, context.shape[-1]))
        predicted = self.unet(rearrange(x, "b f c h w -> b c f h w"), timesteps, cond=condition)
        return rearrange(predicted, "b c f h w -> b f c h w")


class PeerModel(small.VideoModel):
    """:class:`PeerUNet` with the same text encoder as ours."""

    def __init__(self, config: UNet3DConfig):
        nn.Module.__init__(self)
        self.text_encoder = small.TextEncoder(config.context_channels)
        self.image_encoder, self.unet = None, PeerUNet()


@dataclass(frozen=True)
class Run:
    """What is trained, in one sentence; without ``model`` the book's, with ``unet``, asked for ``prediction``."""

    about: str
    unet: UNet3DConfig = field(default_factory=small.small_unet)
    prediction: Prediction = "v"
    shift: float = CONFIGS["t2v"].shift
    model: Callable[[UNet3DConfig], nn.Module] | None = None
    clips: type[data.MovingDigits] = data.MovingDigits


RUNS = {
    "text in time": Run("The book's small model: text cross-attention in the spatial and the temporal transformers."),
    "text in space only": Run(
        "The released models' arrangement: text in the spatial transformers only, and temporal transformers that "
        "attend over time twice.",
        unet=small.small_unet(temporal_cross_attention=False),
    ),
    "starts anywhere": Run(
        "The book's small model on clips that start at a random place, the picture wrapping around at its edges, so "
        "that no single frame tells which way the digit goes; the autoencoder, trained on clips that start in the "
        "middle, blurs what lies across an edge.",
        clips=DigitsAnywhere,
    ),
    "asked for noise": Run(
        "The book's small model, asked for the noise instead of v: an error counts less, the more noise there is.",
        prediction="eps",
    ),
    "shift 1": Run("The book's small model, all noise levels drawn alike.", shift=1.0),
    PEER: Run(
        f"Unet3D of the package {PEER} with its own defaults at two levels of {PEER_CHANNELS} and "
        f"{2 * PEER_CHANNELS} channels, which is about as many parameters; its condition is the mean of the text "
        "tokens plus the embedded frame rate.",
        model=PeerModel,
    ),
}


class Experiment(DenoiserStage):
    """The text-to-video stage with the model and the clips of a run, and without sample sheets."""

    def __init__(self, config: TrainingConfig, run: Run):
        torch.manual_seed(config.seed)
        super().__init__(config)
        if run.model is not None:
            self.trained = run.model(config.unet)
        self.schedule = replace(self.schedule, prediction=run.prediction)
        self.clips = run.clips("train", seed=config.seed)
        self.held_out = run.clips("test", combinations="all", seed=1)

    @torch.no_grad()
    def report(self, trained: nn.Module) -> dict[str, float]:
        """Losses on held-out clips, as errors in v whatever the network is asked for."""
        return {name: self.as_errors_in_v(loss, int(name.split()[1])) for name, loss in super().report(trained).items()}

    def as_errors_in_v(self, loss: float, level: int) -> float:
        """At the same x_t an error of e in v is one of √ᾱ·e in the noise (chapter 9)."""
        return loss / float(self.schedule.alphas_cumprod[level]) if self.schedule.prediction == "eps" else loss

    def sheet(self, trained: nn.Module) -> None:
        return None


def config_of(run: Run, steps: int, seed: int = 0) -> TrainingConfig:
    settings = {"unet": run.unet, "shift": run.shift, "steps": steps, "seed": seed}
    return replace(CONFIGS["t2v"], **settings, decay=0.25, sample_every=200)


def measure(run: Run) -> tuple[float, float]:
    """Processor seconds of a training step and of sampling a clip, each the median of a few."""
    config = config_of(run, steps=12)
    stage, steps, clips = Experiment(config, run), [], []
    stage.report = lambda trained: {}
    training.train(config, None, "cpu", False, stage, callback=lambda *_: steps.append(time.process_time()))
    pipeline, (prompt,) = small.Pipeline(stage.eval().trained, stage.autoencoder), stage.held_out.batch([0]).prompts
    for _ in range(4):
        clips.append(time.process_time())
        pipeline.generate([prompt.caption], prompt.fps, steps=25)
    return tuple(statistics.median(b - a for a, b in itertools.pairwise(ticks)) for ticks in (steps, clips))


@torch.no_grad()
def examine(stage: Experiment, clips: int) -> dict[str, dict[str, float]]:
    """Losses in v at many noise levels, and what the judge finds in clips of 25 guided DDIM steps."""
    held_out = stage.held_out.batch(range(48))
    latents = stage.autoencoder.encode(held_out.video)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    losses: dict[str, dict[str, float]] = {"correct": {}, "direction": {}}
    for condition, by_level in losses.items():
        told = held_out.prompts
        if condition != "correct":
            told = judge.wrong_prompts(told, condition)
        tokens = data.tokenize([prompt.caption for prompt in told])
        for level in LEVELS:
            t = torch.full((len(latents),), level)
            answer = stage.trained(stage.schedule.add_noise(latents, noise, t), t, tokens, held_out.fps)
            error = float((answer - stage.schedule.target(latents, noise, t)).square().mean())
            by_level[str(level)] = round(stage.as_errors_in_v(error, level), 5)

    prompts = data.all_prompts("seen")
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(1))
    prompts = [prompts[i] for i in order[:clips]]
    tokens, streams = data.tokenize([p.caption for p in prompts]), noise_streams(0, clips)
    made = sample_ddim(
        stage.trained.denoiser(),
        stage.schedule,
        draw_noise((clips, *latents.shape[1:]), streams),
        context=stage.trained.context(tokens),
        uncond_context=stage.trained.context(torch.zeros_like(tokens)),
        guidance_scale=3.0,
        fps=torch.tensor([float(p.fps) for p in prompts]),
        steps=25,
        eta=1.0,
        generator=streams,
        progress=False,
    )
    video = stage.autoencoder.decode(made).clamp(-1, 1)
    right = judge.right_answers(small.load_classifier(), video, prompts)
    right["everything"] = torch.stack(list(right.values())).all(dim=0)
    losses = {"losses": losses["correct"], "losses with a wrong direction": losses["direction"]}
    return {**losses, "right": {name: round(float(x.float().mean()), 4) for name, x in right.items()}}


def main(arguments: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(RUNS), metavar="NAME", help=f"one of: {', '.join(RUNS)}")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps of each run (default: {STEPS})")
    parser.add_argument("--seeds", type=int, nargs="+", help="examine a run with each of these seeds, and time nothing")
    parser.add_argument("--clips", type=int, default=60, help="with --seeds: how many the judge sees (default: 60)")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="save and stop; run again to go on")
    parser.add_argument("--json", type=Path, default=small.weights.WEIGHTS / "experiments.json", help="what to write")
    parser.add_argument("--folder", type=Path, default=Path("runs/experiments"), help="checkpoints go here")
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(RUNS)
    if PEER in names and not importlib.util.find_spec("video_diffusion_pytorch"):
        sys.exit(f"error: {PEER} is missing: pip install --no-deps {PEER} einops-exts rotary-embedding-torch")
    torch.set_num_threads(1)

    began, results = time.monotonic(), {}
    for name, seed in itertools.product(names, options.seeds or [0]):
        left = None if options.stop_after is None else options.stop_after - (time.monotonic() - began)
        stage = Experiment(config_of(RUNS[name], options.steps, seed), RUNS[name])
        folder = options.folder / f"{name}, seed {seed}"
        results[name, seed] = training.train(stage.config, folder, "cpu", stage=stage, stop_after=left)
        if not results[name, seed].finished:
            sys.exit(f"{name}, seed {seed}: not finished yet; run again to go on")

    card = {"about": ABOUT, "threads": 1, "torch": torch.__version__, "runs": {}, "seeds": {}}
    if options.json.exists():
        card |= {"runs": {}, "seeds": {}} | json.loads(options.json.read_text(encoding="utf-8"))
    if options.seeds:
        add_seeds(card["seeds"], results, options.clips)
    else:
        add_runs(card["runs"], {name: result for (name, _), result in results.items()}, options.steps)
    options.json.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def add_seeds(seeds: dict, results: dict[tuple[str, int], training.Result], clips: int):
    for (name, seed), result in results.items():
        steps = result.log[-1]["step"]
        stage = Experiment(config_of(RUNS[name], steps, seed), RUNS[name]).eval()
        stage.trained = result.model
        kept = seeds.setdefault(name if steps == STEPS else f"{name}, {steps:,} steps", {})
        kept[str(seed)] = {
            "command": f'python tools/measure/small_experiments.py --only "{name}" --steps {steps} --seeds {seed}',
            "end": rounded(result.log[-1]),
            **examine(stage, clips),
        }
        print(f"{name}, seed {seed}: {kept[str(seed)]}")


def add_runs(runs: dict, results: dict[str, training.Result], steps: int):
    # In turns, so that a slow moment of the machine hits all of them alike.
    turns = [{name: measure(RUNS[name]) for name in results} for _ in range(3)]
    for name, result in results.items():
        per_step, per_clip = (statistics.median(turn[name][i] for turn in turns) for i in (0, 1))
        runs[name] = {
            "command": f'python tools/measure/small_experiments.py --only "{name}" --steps {steps}',
            "about": RUNS[name].about,
            "parameters": sum(p.numel() for p in result.model.parameters()),
            "steps": result.log[-1]["step"],
            "seconds_per_step": round(per_step, 4),
            "seconds_per_clip": round(per_clip, 4),
            "log": [rounded(row) for row in result.log],
        }
        print(f"{name}: {per_step:.3f} s a step, {per_clip:.2f} s a clip, {runs[name]['log'][-1]}")


def rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in row.items() if name != "seconds"}


if __name__ == "__main__":
    main()

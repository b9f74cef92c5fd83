"""Judge a small model and write the verdict into its card: floor and ceilings, and the best sampling of those tried.

    python tools/measure/small_evaluate.py t2v --weights runs/weights

Guidance scale and eta are chosen on prompts and noise of their own; the numbers that count come from others. Seen and
unseen combinations have a floor and ceilings each, of the same prompts. ``--bounds`` measures these alone.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdmlib import small
from vdmlib.small import data, judge
from vdmlib.small.weights import WEIGHTS, card_text, write_whole

COLUMNS = {"seen combinations": "seen", "unseen combinations": "unseen"}
BATCH = 20  # clips that are sampled together


def draw_prompts(combinations: data.Combinations, number: int, seed: int) -> list[data.Prompt]:
    """Different prompts as far as there are enough, in random order."""
    prompts = data.all_prompts(combinations)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(prompts), generator=generator) for _ in range(number // len(prompts) + 1)])
    return [prompts[i] for i in order[:number]]


def score(verdict: dict[str, float]) -> float:
    """What guidance scale and eta are chosen by: everything right at once, and the same digit to the end."""
    return verdict["everything"] + verdict["same_digit"]


class Evaluation:
    """A model before the judge. Real clips are drawn in a fixed order: reference, validation, seen, unseen."""

    def __init__(self, name: str, folder: str, options: argparse.Namespace):
        self.options = options
        self.model, self.autoencoder = small.load_video_model(name, folder), small.load_autoencoder()
        self.classifier, self.generator = small.load_classifier(), torch.Generator().manual_seed(options.seed)
        # Of other prompts and handwriting than those that are judged: what the Fréchet distance compares with.
        self.reference = self.real(draw_prompts("all", options.reference_clips, options.seed + 1))
        self.validation = draw_prompts("seen", options.validation_clips, options.seed + 2)
        self.validation_real = self.real(self.validation)
        self.prompts = {title: draw_prompts(kind, options.clips, options.seed + 3) for title, kind in COLUMNS.items()}
        self.real_clips = {title: self.real(prompts) for title, prompts in self.prompts.items()}
        self.kept: dict[str, dict[str, float]] = {}

    def real(self, prompts: Sequence[data.Prompt]) -> Tensor:
        """Real clips in handwriting that no training has seen."""
        return data.clips_of(prompts, data.draw_glyphs(prompts, "test", self.generator)).video

    def sample(self, model: small.VideoModel, prompts: Sequence[data.Prompt], real: Tensor, **settings: Any) -> Tensor:
        """Clips for the prompts, for I2V from the first frames of real ones, a few at a time."""
        pipeline, seed, videos = small.Pipeline(model, self.autoencoder), settings.pop("seed"), []
        for start in range(0, len(prompts), BATCH):
            some = prompts[start : start + BATCH]
            given = real[start : start + BATCH, 0] if model.takes_frame else None
            captions, fps = [prompt.caption for prompt in some], [prompt.fps for prompt in some]
            settings |= {"steps": self.options.steps, "seed": self.options.seed + seed + start}
            videos.append(pipeline.generate(captions, fps, given, **settings))
        return torch.cat(videos)

    def verdict(self, video: Tensor, prompts: Sequence[data.Prompt]) -> dict[str, float]:
        return asdict(judge.judge(self.classifier, video, prompts, self.reference))

    def choose(self) -> tuple[dict[str, float], dict[str, Any]]:
        """The best guidance scale at the first eta, then the best eta; and the verdicts on all that were tried."""

        def tried(scale: float, eta: float) -> dict[str, float]:
            settings = {"guidance_scale": scale, "eta": eta}
            video = self.sample(self.model, self.validation, self.validation_real, seed=100, **settings)
            verdict = self.verdict(video, self.validation)
            print(settings, {name: round(number, 3) for name, number in verdict.items()}, flush=True)
            return verdict

        first_eta, *other_etas = self.options.eta
        by_scale = {scale: tried(scale, first_eta) for scale in self.options.guidance}
        best = max(self.options.guidance, key=lambda scale: score(by_scale[scale]))
        by_eta = {first_eta: by_scale[best]} | {eta: tried(best, eta) for eta in other_etas}
        settings = {"guidance_scale": best, "eta": max(by_eta, key=lambda eta: score(by_eta[eta]))}
        return settings, {"guidance_sweep": by_scale, "eta_sweep": by_eta}

    def made(self, settings: dict[str, float]) -> dict[str, dict[str, float]]:
        """The verdict on the model's clips, for each column."""
        verdicts = {}
        for title, prompts in self.prompts.items():
            real = self.real_clips[title]
            video = self.sample(self.model, prompts, real, seed=200, **settings)
            verdicts[title] = self.verdict(video, prompts)
            if self.model.takes_frame:
                self.kept[COLUMNS[title]] = judge.kept_handwriting(video, real[:, 0])
        return verdicts

    def bounds(self, eta: float) -> dict[str, dict[str, dict[str, float]]]:
        """For each column, of its own prompts: an untrained model, and real clips, also through the autoencoder."""
        torch.manual_seed(self.options.seed)
        untrained = small.VideoModel(self.model.unet.config, len(self.model.text_encoder.layers)).eval()
        bounds: dict[str, dict[str, dict[str, float]]] = {}
        for title, prompts in self.prompts.items():
            real = self.real_clips[title]
            with torch.no_grad():
                clips = {
                    "floor: untrained": self.sample(untrained, prompts, real, seed=300, guidance_scale=1.0, eta=eta),
                    "ceiling: real, through the autoencoder": self.autoencoder(real).clamp(-1, 1),
                    "ceiling: real": real,
                }
            bounds[title] = {name: self.verdict(video, prompts) for name, video in clips.items()}
            if self.model.takes_frame:
                self.kept |= {
                    f"{name}, {COLUMNS[title]}": judge.kept_handwriting(video, real[:, 0])
                    for name, video in clips.items()
                }
        return bounds


def evaluate(evaluation: Evaluation, card: dict[str, Any]) -> dict[str, Any]:
    """Everything that the judge adds to the card."""
    settings, sweeps = evaluation.choose()
    began = time.monotonic()
    made = evaluation.made(settings)
    seconds = (time.monotonic() - began) / sum(len(prompts) for prompts in evaluation.prompts.values())
    held_out = data.MovingDigits("test", "all", seed=1).batch(range(48))
    schedule = small.small_schedule()
    wrong = judge.wrong_condition_losses(evaluation.model, evaluation.autoencoder, schedule, held_out)
    for condition, row in wrong.items():
        print(f"{condition:>10}", "  ".join(f"t={t}: {loss:.4f}" for t, loss in row.items()))
    print(f"{settings}, {seconds:.2f} s a clip on {torch.get_num_threads()} threads")
    steps, scale, eta = evaluation.options.steps, settings["guidance_scale"], settings["eta"]
    # Kept from earlier calls: what more steps and eta are worth.
    by_sampling = card.get("judge_by_sampling", {}) | {f"{steps} steps, guidance {scale:g}, eta {eta:g}": made}
    return {
        **settings,
        "sampling_steps": steps,
        **sweeps,
        "judge": made,
        "judge_by_sampling": by_sampling,
        "wrong_condition_losses": wrong,
    }


def show(made: dict[str, dict[str, float]], bounds: dict[str, dict[str, dict[str, float]]]):
    """Each column with its own floor and ceilings below."""
    rows = {}
    for title, column in bounds.items():
        rows |= {title: made[title]} if title in made else {}
        rows |= {f"{name}, {COLUMNS[title]}": verdict for name, verdict in column.items()}
    print(judge.verdict_table({name: judge.Verdict(**verdict) for name, verdict in rows.items()}))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=small.weights.VIDEO_MODELS, help="which model")
    parser.add_argument("--weights", default=str(WEIGHTS), help="folder of weights and cards")
    parser.add_argument("--clips", type=int, default=160, help="clips for each row of the table")
    parser.add_argument("--validation-clips", type=int, default=80, help="clips for each setting that is tried")
    parser.add_argument("--reference-clips", type=int, default=400, help="real ones, for the Fréchet distance")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0], help="scales to try")
    parser.add_argument("--eta", type=float, nargs="+", default=[1.0, 0.0], help="to try, at the best guidance scale")
    parser.add_argument("--steps", type=int, default=25, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, handwriting and noise")
    parser.add_argument("--bounds", action="store_true", help="measure floor and ceilings alone")
    parser.add_argument("--dry-run", action="store_true", help="print, but do not change the card")
    return parser


def main(arguments: Sequence[str] | None = None):
    options = parser().parse_args(arguments)
    evaluation, card = (
        Evaluation(options.name, options.weights, options),
        small.read_card(options.name, options.weights),
    )
    found = {} if options.bounds else evaluate(evaluation, card)
    bounds = evaluation.bounds(found.get("eta", card.get("eta", 1.0)))
    show(found.get("judge", {}), bounds)
    card |= {**found, "bounds": bounds, "kept_handwriting": card.get("kept_handwriting", {}) | evaluation.kept}
    if not options.dry_run:
        write_whole({Path(options.weights) / f"{options.name}.json": card_text(card).encode()})


if __name__ == "__main__":
    main()

"""Judge a small model and write the verdict into its card: floor, ceiling, and the best sampling of those tried.

    python tools/measure/small_evaluate.py t2v --weights runs/weights

Guidance scale and eta are chosen on prompts and noise of their own; the numbers that count come from others.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vdmlib import small
from vdmlib.small import data, judge


def draw_prompts(combinations: data.Combinations, number: int, seed: int) -> list[data.Prompt]:
    """Different prompts as far as there are enough, in random order."""
    prompts = data.all_prompts(combinations)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(prompts), generator=generator) for _ in range(number // len(prompts) + 1)])
    return [prompts[i] for i in order[:number]]


class Sampler:
    """Samples clips for prompts, for I2V from given frames, a few at a time."""

    def __init__(self, autoencoder: torch.nn.Module, steps: int, batch: int = 20):
        self.autoencoder, self.steps, self.batch = autoencoder, steps, batch

    def __call__(
        self,
        model: small.VideoModel,
        prompts: Sequence[data.Prompt],
        first_frames: Tensor | None,
        seed: int,
        **settings: float,
    ) -> Tensor:
        videos = []
        for start in range(0, len(prompts), self.batch):
            part = slice(start, start + self.batch)
            captions, fps = [p.caption for p in prompts[part]], [p.fps for p in prompts[part]]
            given = None if first_frames is None else first_frames[part]
            pipeline = small.Pipeline(model, self.autoencoder)
            clips = pipeline.generate(captions, fps, given, steps=self.steps, seed=seed + start, **settings)
            videos.append(clips)
        return torch.cat(videos)


def score(verdict: dict[str, float]) -> float:
    """What guidance scale and eta are chosen by: everything right at once, and the same digit to the end."""
    return verdict["everything"] + verdict["same_digit"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["t2v", "i2v"], help="which model")
    parser.add_argument("--weights", default=str(small.weights.WEIGHTS), help="folder of weights and cards")
    parser.add_argument("--clips", type=int, default=160, help="clips for each row of the table")
    parser.add_argument("--validation-clips", type=int, default=80, help="clips for each setting that is tried")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0], help="scales to try")
    parser.add_argument("--eta", type=float, nargs="+", default=[1.0, 0.0], help="to try, at the best guidance scale")
    parser.add_argument("--steps", type=int, default=25, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, handwriting and noise")
    parser.add_argument("--dry-run", action="store_true", help="print, but do not change the card")
    options = parser.parse_args()

    model = small.load_video_model(options.name, options.weights)
    autoencoder = small.load_autoencoder()
    classifier = small.load_classifier()
    sample = Sampler(autoencoder, options.steps)
    takes_frame = model.image_encoder is not None
    generator = torch.Generator().manual_seed(options.seed)

    def real_clips(prompts):
        return data.clips_of(prompts, data.draw_glyphs(prompts, "test", generator)).video

    def frames_of(video):
        return video[:, 0] if takes_frame else None

    # Real clips of other prompts and handwriting than those that are judged: what the Fréchet distance compares with.
    reference = real_clips(draw_prompts("all", 400, options.seed + 1))
    validation = draw_prompts("seen", options.validation_clips, options.seed + 2)
    given = frames_of(real_clips(validation))

    def tried(scale: float, eta: float) -> dict[str, float]:
        settings = {"guidance_scale": scale, "eta": eta}
        video = sample(model, validation, given, options.seed + 100, **settings)
        verdict = asdict(judge.judge(classifier, video, validation, reference))
        print(settings, {name: round(number, 3) for name, number in verdict.items()}, flush=True)
        return verdict

    first_eta, *other_etas = options.eta
    guidance_sweep = {scale: tried(scale, first_eta) for scale in options.guidance}
    best = max(options.guidance, key=lambda scale: score(guidance_sweep[scale]))
    eta_sweep = {first_eta: guidance_sweep[best]} | {eta: tried(best, eta) for eta in other_etas}
    settings = {"guidance_scale": best, "eta": max(eta_sweep, key=lambda eta: score(eta_sweep[eta]))}

    verdicts, kept = {}, {}
    for combinations in ("seen", "unseen"):
        prompts = draw_prompts(combinations, options.clips, options.seed + 3)
        real = real_clips(prompts)
        began = time.monotonic()
        video = sample(model, prompts, frames_of(real), options.seed + 200, **settings)
        seconds = (time.monotonic() - began) / len(prompts)
        verdicts[f"{combinations} combinations"] = judge.judge(classifier, video, prompts, reference)
        if takes_frame:
            kept[combinations] = judge.kept_handwriting(video, real[:, 0])
        print(judge.verdict_table(verdicts), kept or "", flush=True)
    # The last prompts again: floor and ceiling.
    torch.manual_seed(options.seed)
    untrained = small.VideoModel(model.unet.config, len(model.text_encoder.layers)).eval()
    plain = {"guidance_scale": 1.0, "eta": settings["eta"]}
    with torch.no_grad():
        others = {
            "floor: untrained": sample(untrained, prompts, frames_of(real), options.seed + 300, **plain),
            "ceiling: real, through the autoencoder": autoencoder(real).clamp(-1, 1),
            "ceiling: real": real,
        }
    for title, video in others.items():
        verdicts[title] = judge.judge(classifier, video, prompts, reference)
        if takes_frame:
            kept[title] = judge.kept_handwriting(video, real[:, 0])
    held_out = data.MovingDigits("test", "all", seed=1).batch(range(48))
    wrong = judge.wrong_condition_losses(model, autoencoder, small.small_schedule(), held_out)
    print(judge.verdict_table(verdicts))
    for condition, row in wrong.items():
        print(f"{condition:>10}", "  ".join(f"t={t}: {loss:.4f}" for t, loss in row.items()))
    print(f"{settings}, {seconds:.2f} s a clip on {torch.get_num_threads()} threads", kept or "")
    if not options.dry_run:
        card = small.read_card(options.name, options.weights)
        numbers = {title: asdict(verdict) for title, verdict in verdicts.items()}
        made = {title: row for title, row in numbers.items() if "combinations" in title}
        card |= {
            **settings,
            "sampling_steps": options.steps,
            "guidance_sweep": guidance_sweep,
            "eta_sweep": eta_sweep,
            "judge": numbers,
            # Kept from earlier calls: what more steps and eta are worth.
            "judge_by_sampling": card.get("judge_by_sampling", {})
            | {f"{options.steps} steps, guidance {best:g}, eta {settings['eta']:g}": made},
            "wrong_condition_losses": wrong,
            "kept_handwriting": kept,
        }
        path = Path(options.weights) / f"{options.name}.json"
        path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Judge the small model and write the numbers into the card beside its weights.

Guidance is chosen on validation prompts; then clips of combinations seen in training and of combinations never seen
are judged, beside the floor (the same network, untrained) and the ceiling (real clips in held-out handwriting, with and
without a trip through the autoencoder). Also the wrong-condition losses, and the seconds that a clip takes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from vdmlib import data, judge, small_model


def draw_prompts(combinations: str, number: int, seed: int) -> list[data.Prompt]:
    """Prompts at random, each as often as any other."""
    prompts = data.all_prompts(combinations)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat(
        [torch.randperm(len(prompts), generator=generator) for _ in range(number // len(prompts) + 1)]
    )
    return [prompts[i] for i in order[:number]]


def sample(
    model: small_model.VideoModel,
    autoencoder: torch.nn.Module,
    prompts: Sequence[data.Prompt],
    guidance_scale: float,
    steps: int,
    seed: int,
    first_frames: torch.Tensor | None = None,
    batch: int = 20,
) -> torch.Tensor:
    """Clips for prompts, a few at a time."""
    videos = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        videos.append(
            small_model.generate(
                model,
                autoencoder,
                data.tokenize([p.caption for p in some]),
                torch.tensor([float(p.fps) for p in some]),
                None if first_frames is None else first_frames[start : start + batch],
                steps=steps,
                guidance_scale=guidance_scale,
                seed=seed + start,
            )
        )
    return torch.cat(videos)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["t2v", "i2v"], help="which model")
    parser.add_argument("--weights", default=str(small_model.WEIGHTS), help="folder of weights and cards")
    parser.add_argument("--clips", type=int, default=160, help="clips for each row of the table")
    parser.add_argument(
        "--validation-clips", type=int, default=40, help="clips for each guidance scale tried"
    )
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.5, 3.0, 5.0], help="scales to try")
    parser.add_argument("--steps", type=int, default=25, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, handwriting and noise")
    parser.add_argument("--dry-run", action="store_true", help="print, but do not change the card")
    options = parser.parse_args()

    model = small_model.load_video_model(options.name, options.weights)
    autoencoder = small_model.load_autoencoder(options.weights)
    classifier = small_model.load_classifier(options.weights)
    takes_frame = model.image_encoder is not None
    generator = torch.Generator().manual_seed(options.seed)

    def real_clips(prompts):
        return data.clips_of(prompts, data.draw_glyphs(prompts, "test", generator)).video

    def frames_of(video):
        return video[:, 0] if takes_frame else None

    def judged(video, prompts):
        return judge.judge(classifier, video, prompts, reference)

    # Real clips of other prompts and handwriting than those that are judged: what the Fréchet distance compares with.
    reference = real_clips(draw_prompts("all", 400, options.seed + 1))
    validation = draw_prompts("seen", options.validation_clips, options.seed + 2)
    given = frames_of(real_clips(validation))
    sweep = {}
    for scale in options.guidance:
        video = sample(model, autoencoder, validation, scale, options.steps, options.seed + 100, given)
        sweep[scale] = {
            name: float(a.float().mean())
            for name, a in judge.right_answers(classifier, video, validation).items()
        }
        print("guidance", scale, sweep[scale], flush=True)
    guidance = max(sweep, key=lambda scale: sum(sweep[scale].values()))

    verdicts, kept = {}, {}
    torch.manual_seed(options.seed)
    untrained = small_model.VideoModel(model.unet.config, len(model.text_encoder.layers)).eval()
    for title, combinations in (("seen", "seen"), ("unseen", "unseen")):
        prompts = draw_prompts(combinations, options.clips, options.seed + 3)
        real = real_clips(prompts)
        began = time.monotonic()
        video = sample(
            model, autoencoder, prompts, guidance, options.steps, options.seed + 200, frames_of(real)
        )
        seconds = (time.monotonic() - began) / len(prompts)
        verdicts[f"{title} combinations"] = judged(video, prompts)
        if takes_frame:
            kept[title] = judge.kept_handwriting(video, real[:, 0])
        print(judge.verdict_table(verdicts), flush=True)
    # The last prompts again: the floor is the same for all.
    floor = sample(untrained, autoencoder, prompts, 1.0, options.steps, options.seed + 300, frames_of(real))
    verdicts["floor: untrained"] = judged(floor, prompts)
    with torch.no_grad():
        verdicts["ceiling: real, through the autoencoder"] = judged(autoencoder(real).clamp(-1, 1), prompts)
    verdicts["ceiling: real"] = judged(real, prompts)
    table = judge.verdict_table(verdicts)
    wrong = judge.wrong_condition_losses(
        model,
        autoencoder,
        small_model.small_schedule(),
        data.MovingDigits("test", "all", seed=1).batch(range(48)),
    )
    print(table)
    for condition, row in wrong.items():
        print(f"{condition:>10}", "  ".join(f"t={t}: {loss:.4f}" for t, loss in row.items()))
    print(f"guidance {guidance}, {seconds:.2f} s a clip on {torch.get_num_threads()} threads", kept or "")
    if not options.dry_run:
        path = Path(options.weights) / f"{options.name}.json"
        card = small_model.read_card(options.name, options.weights)
        card |= {
            "guidance_scale": guidance,
            "sampling_steps": options.steps,
            "guidance_sweep": sweep,
            "judge": {title: asdict(verdict) for title, verdict in verdicts.items()},
            "wrong_condition_losses": wrong,
            "kept_handwriting": kept,
        }
        path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

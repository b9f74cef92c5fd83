"""Let the shipped small model make the clips of the landing page, and a still picture of them.

Above, clips from sentences; below, clips that go on from a given picture of handwriting the model has never seen. The
first drawing from the seed is kept, whatever it looks like. Writes book/_static/clips.gif and book/_static/clips.png.
"""

import argparse
from pathlib import Path

import torch

from vdmlib import small, viz
from vdmlib.small import data

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_static"
FPS = 10
SENTENCES = (
    "a red 7 moving left quickly",
    "a green 3 moving up quickly",
    "a yellow 0 moving right slowly",
    "a blue 5 moving down quickly",
    "a pink 2 moving right quickly",
)


def prompt_of(sentence: str) -> data.Prompt:
    """The prompt whose caption the sentence is."""
    _, colour, digit, _, direction, speed = sentence.split()
    return data.Prompt(int(digit), colour, direction, speed, FPS)


def in_lines(sentence: str) -> str:
    """A sentence in three lines, to stand above a small picture."""
    *what, moving, way, speed = sentence.split()
    return f"{' '.join(what)}\n{moving} {way}\n{speed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: book/_static)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and of the given handwriting")
    options = parser.parse_args()
    viz.use_style()
    from_text = small.load_pretrained("t2v").generate(SENTENCES, FPS, seed=options.seed)

    # The pictures are given in another order, so that the second half shows other digits in other motions.
    sentences = SENTENCES[2:] + SENTENCES[:2]
    prompts = [prompt_of(sentence) for sentence in sentences]
    glyphs = data.draw_glyphs(prompts, "test", torch.Generator().manual_seed(options.seed))
    given = data.clips_of(prompts, glyphs).video[:, 0]
    from_picture = small.load_pretrained("i2v").generate(sentences, FPS, given, seed=options.seed + 1)

    titles = [*map(in_lines, SENTENCES), *[""] * len(given), *map(in_lines, sentences)]
    rows = ("text\nto video", "given", "picture\nto video")
    pictures = [
        viz.image_grid(
            torch.cat([from_text[:, f], given, from_picture[:, f]]), titles=titles, rows=rows, columns=len(SENTENCES)
        )
        for f in range(data.FRAMES)
    ]
    moving = viz.gif_bytes(pictures, milliseconds=round(1000 / FPS), poster=data.FRAMES // 2, hold=700)
    (options.folder / "clips.gif").write_bytes(moving)
    pictures[data.FRAMES // 2].savefig(options.folder / "clips.png", dpi=110, metadata={"Software": None})
    for name in ("clips.png", "clips.gif"):
        print(f"{name}: {(options.folder / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

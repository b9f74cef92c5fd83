"""The page "What moves?": its clips are the model's, its numbers the judge's, and it can be used in every way."""

import base64
import functools
import io
import json
import sys
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import make_world
import numpy as np
import pytest
import torch
from built_book import AXE, DESK, PHONE, SITE, open_page
from einops import rearrange
from PIL import Image
from torch import nn

from vdmlib.small import data, judge, load_classifier, load_pretrained

PAGE = "book/what_moves.html"
NAMES = ("digit", "colour", "direction", "speed")

pytestmark = pytest.mark.xdist_group("what_moves")

# Without a browser.


@functools.cache
def world(path=make_world.OUTPUT) -> dict[str, Any]:
    """What the page's script is given."""
    head, clips = path.read_text(encoding="utf-8").split(";\nworld.clips=")
    return json.loads(head.removeprefix("window.world=")) | {"clips": json.loads(clips.removesuffix(";\n"))}


def prompt_of(key: str) -> data.Prompt:
    digit, colour, direction, speed, fps, *_ = key.split()
    return data.Prompt(int(digit), colour, direction, speed, int(fps))


def pictures(clip: dict[str, Any]) -> torch.Tensor:
    """The stored frames of a clip (f 3 h w), in −1 … 1."""
    sprite = Image.open(io.BytesIO(base64.b64decode(clip["webp"])))
    assert (sprite.format, sprite.size) == ("WEBP", (data.FRAMES * data.SIZE, data.SIZE))
    pixels = torch.from_numpy(np.array(sprite.convert("RGB"))).float() / 127.5 - 1
    return rearrange(pixels, "h (f w) c -> f c h w", f=data.FRAMES)


def test_every_clip_that_can_be_chosen_is_there_and_the_file_is_small():
    options = make_world.parser().parse_args([])
    asked = [make_world.key_of(p, guidance, part) for batch, guidance, part in make_world.jobs(options) for p in batch]
    assert list(world()["clips"]) == asked and len(set(asked)) == len(asked) == 14 * 16 + 3 * (2 * 16 + 4 * 4)
    things = {tuple(key.split()[:2]) for key in asked}  # as the page says below its menus
    assert things == {(str(digit), "red") for digit in range(10)} | {("7", colour) for colour in data.COLOURS}
    assert make_world.OUTPUT.stat().st_size < 4e6
    assert world()["heldOut"] == sorted(
        {f"{p.digit} {p.colour} {p.direction}" for p in data.all_prompts("unseen")},
        key=[f"{p.digit} {p.colour} {p.direction}" for p in data.all_prompts()].index,
    )


def test_what_is_right_follows_from_what_is_seen():
    clips = world()["clips"]
    prompts = [prompt_of(key) for key in clips]
    wanted = judge.nearest_speed(torch.tensor([prompt.pixels_per_frame for prompt in prompts]))
    found = judge.nearest_speed(torch.tensor([clip["seen"][3] for clip in clips.values()]))
    for prompt, clip, near in zip(prompts, clips.values(), (wanted == found).tolist(), strict=True):
        seen = dict(zip(NAMES, clip["seen"], strict=True))
        right = {name: seen[name] == getattr(prompt, name) for name in NAMES[:3]} | {"speed": near}
        assert right == clip["right"]


def test_the_judge_says_the_same_of_the_pictures_as_they_are_stored():
    """Compression leaves the verdicts: of every eleventh clip, one verdict in a hundred at most."""
    keys = list(world()["clips"])[::11]
    clips = [world()["clips"][key] for key in keys]
    video = torch.stack([pictures(clip) for clip in clips])
    right = judge.right_answers(load_classifier(), video, [prompt_of(key) for key in keys])
    tracks = judge.track(video)
    for i, clip in enumerate(clips):
        assert (tracks[i] - torch.tensor(clip["track"])).abs().max() < 0.6, keys[i]
    stored = {name: [clip["right"][name] for clip in clips] for name in right}
    differ = sum(a != b for name in right for a, b in zip(right[name].tolist(), stored[name], strict=True))
    assert differ <= 0.01 * 4 * len(keys)


TINY = [
    "--things=7 red",
    "--closer=7 red",
    "--directions",
    "left",
    "right",
    "--speeds=quickly",
    "--fps=10",
    "--guidance=3",
]


def test_the_command_makes_the_stored_clips_again_and_no_clip_twice(tmp_path, monkeypatch, capsys):
    kept, output = tmp_path / "kept.jsonl", tmp_path / "clips.js"
    command = ["make_world.py", *TINY, "--parts=temporal convolution", "--kept", str(kept), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*command, "--seconds=0"])
    make_world.main()
    assert "0 clips made" in capsys.readouterr().out and not output.exists()
    monkeypatch.setattr(sys, "argv", command)
    make_world.main()
    assert "4 clips made" in capsys.readouterr().out
    first = output.read_bytes()
    make_world.main()
    assert "0 clips made" in capsys.readouterr().out and output.read_bytes() == first
    clips = world(output)["clips"]
    assert len(clips) == 4
    for key, clip in clips.items():
        stored = world()["clips"][key]
        # On another processor the last digits differ, and with them a shade here and there.
        assert (pictures(clip) - pictures(stored)).abs().mean() < 1 / 127.5
        assert (torch.tensor(clip["track"]) - torch.tensor(stored["track"])).abs().max() < 0.05
        assert clip["right"] == stored["right"] and clip["seen"][:3] == stored["seen"][:3]


def test_a_clip_is_the_one_that_the_model_makes_of_its_sentence_alone():
    pipeline, prompt = load_pretrained("t2v"), data.Prompt(7, "red", "left", "quickly", 10)
    other = data.Prompt(3, "blue", "up", "slowly", 16)
    pipeline = type(pipeline)(pipeline.video_model, pipeline.autoencoder, {**pipeline.card, "sampling_steps": 4})
    video = make_world.generate(pipeline, [other, prompt], 3.0, "", seed=5)
    alone = pipeline.generate([prompt.caption], prompt.fps, seed=5, guidance_scale=3.0)
    assert (video[1] - alone[0]).abs().max() < 1e-3


def test_a_part_is_gone_and_comes_back():
    """Without temporal convolutions frames are a set: exchanged in, they come out exchanged."""
    model = load_pretrained("t2v").video_model.double()
    x = torch.randn(1, 8, 8, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    tokens, order = data.tokenize(["a red 7 moving left quickly"]), torch.tensor([3, 6, 1, 4, 7, 0, 5, 2])

    def answers(part: str) -> tuple[torch.Tensor, float]:
        with torch.no_grad(), make_world.without(model.unet, part, 0):
            given, exchanged = (
                model(video, torch.tensor([500]), tokens, torch.tensor([10.0])) for video in (x, x[:, order])
            )
        return given, float((given[:, order] - exchanged).abs().max())

    whole, moved = answers("")
    assert moved > 0.1
    results = {part: answers(part) for part in make_world.PARTS}
    assert results["temporal convolution"][1] < 1e-9 < 0.1 < results["temporal attention"][1]
    for part, (result, _) in results.items():
        assert (result - whole).abs().max() > 0.01, part
    assert torch.equal(answers("")[0], whole)


def test_without_their_order_frames_come_in_another_one_each_time_and_go_back_to_their_places():
    seen = []

    class Same(nn.Module):
        def forward(self, x):
            seen.append(tuple(x[0, :, 0].tolist()))
            return x

    network, x = Same(), torch.arange(8.0).reshape(1, 8, 1)
    with make_world.without(network, "order of frames", 0):
        assert all(torch.equal(network(x), x) for _ in range(3))
    assert len(set(seen)) == 3 and all(sorted(each) == list(range(8)) for each in seen)


# In the built book.

ADDRESSES = ("http", "file")


def visit_page(browser, home: str, viewport=DESK, theme: str = "light"):
    allowed = ("file:", "data:") if home.startswith("file:") else (home, "data:")
    return open_page(browser, home + PAGE, allowed, viewport, theme)


@pytest.fixture(params=ADDRESSES)
def visit(request, browser, server):
    opened = visit_page(browser, server if request.param == "http" else SITE.as_uri() + "/")
    yield opened
    assert opened.requests == [] and opened.complaints == []
    opened.tab.context.close()


@pytest.fixture
def phone(browser):
    """In the dark, where motion is not wanted, without a server."""
    opened = visit_page(browser, SITE.as_uri() + "/", PHONE, "dark")
    opened.tab.emulate_media(reduced_motion="reduce")
    opened.tab.reload(wait_until="load")
    yield opened
    assert opened.requests == [] and opened.complaints == []
    opened.tab.context.close()


def fixed(value: float, digits: int) -> str:
    """As JavaScript writes a number, which rounds exact halves up."""
    return str(Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


PLACES = "() => [...document.querySelectorAll('.world-picture')].map((picture) => picture.style.backgroundPositionX)"


def keys_shown(tab) -> tuple[str, str]:
    """The names of both clips, from what is chosen."""
    left = {select.get_attribute("name"): select.input_value() for select in tab.locator(".world-choose select").all()}
    right = left | json.loads(left.pop("change"))
    order = ("digit", "colour", "direction", "speed", "fps", "guidance", "part")
    return tuple(" ".join(clip.get(name, "") for name in order).strip() for clip in (left, right))


def check_what_is_shown(tab) -> None:
    """Pictures, verdicts and tracks on the page are those of the clips that are chosen."""
    figures = tab.locator(".world figure").all()
    for figure, key in zip(figures, keys_shown(tab), strict=True):
        clip = world()["clips"][key]
        assert clip["webp"] in figure.locator(".world-picture").get_attribute("style")
        assert f"moving {prompt_of(key).direction} {prompt_of(key).speed}" in figure.locator("figcaption").inner_text()
        lines = figure.locator(".world-verdict li").all_inner_texts()
        assert [line.startswith("✓") for line in lines] == [clip["right"][name] for name in NAMES]
        made, asked = fixed(clip["seen"][3], 2), fixed(prompt_of(key).pixels_per_frame, 2)
        assert f"{made} px a frame" in lines[3] and f"= {asked}" in lines[3]
        said = figure.locator(".world-picture").get_attribute("aria-label")
        assert f"{made} pixels a frame" in said and ("wrong" in said) != all(clip["right"].values())
    rows = tab.locator(".world-numbers tbody tr").all_text_contents()[:4]
    centres = [world()["clips"][key]["track"] for key in keys_shown(tab)]
    expected = ["".join(fixed(place[axis], 1) for place in centre) for centre in centres for axis in (0, 1)]
    assert [row.split(", ")[1][1:] for row in rows] == expected
    text = tab.locator(".world-card").inner_text()
    assert text and not any(wrong in text for wrong in ("undefined", "NaN", "null", "Infinity"))


@pytest.mark.browser
def test_two_clips_move_before_anything_is_touched(visit):
    tab = visit.tab
    assert keys_shown(tab) == ("7 red left quickly 10 3", "7 red right quickly 10 3")
    check_what_is_shown(tab)
    assert tab.locator(".world-card").inner_text().count("pixels a frame") == 2
    assert "Guess" in tab.locator(".world-question").inner_text()
    seen = set()
    for _ in range(30):
        seen.add(tuple(visit.ask(PLACES)))
        tab.wait_for_timeout(60)
    assert len(seen) > 4
    tab.get_by_role("button", name="Pause").click()
    stopped = visit.ask(PLACES)
    tab.wait_for_timeout(500)
    assert visit.ask(PLACES) == stopped
    tab.get_by_role("button", name="Play").click()
    tab.wait_for_function(
        f"(before) => JSON.stringify(({PLACES})()) !== before", arg=json.dumps(stopped, separators=(",", ":"))
    )


def check_what_guidance_saves(tab) -> None:
    """Right with it and misread without it; of the digit that is misread most often, as the page counts and says."""
    clips = world()["clips"]
    right, wrong = (clips[key]["right"]["digit"] for key in keys_shown(tab))
    assert right and not wrong
    shown, text = keys_shown(tab)[0][:5], tab.locator(".world-card [role=status]").inner_text()
    counts = {}
    for thing in make_world.CLOSER:
        of = [
            [c["right"]["digit"] for key, c in clips.items() if key.startswith(thing) and key.endswith(f" {g}")]
            for g in (1, 3)
        ]
        counts[thing] = [f"all {len(each)}" if all(each) else f"{sum(each)} of {len(each)}" for each in of]
        assert sum(of[0]) >= sum(
            clips[key]["right"]["digit"] for key in clips if key.startswith(shown) and key.endswith(" 1")
        )
    without, with_guidance = counts[shown]
    assert f"right in {without} clips, with guidance 3 in {with_guidance};" in text


@pytest.mark.browser
def test_everything_to_try_says_what_its_numbers_show(visit):
    tab, texts = visit.tab, set()
    for button in tab.locator(".world-tries button").all():
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        check_what_is_shown(tab)
        texts.add(tab.locator(".world-card [role=status]").inner_text())
        tab.add_script_tag(path=AXE)
        found = tab.evaluate("async () => (await axe.run('.world', { preload: false })).violations")
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
        if "Guidance 1" in button.inner_text():
            check_what_guidance_saves(tab)
    assert len(texts) == tab.locator(".world-tries button").count() == 12
    assert tab.get_by_role("button", name="next").is_disabled()


@pytest.mark.browser
def test_every_word_and_number_can_be_chosen(visit):
    """Every value of every choice on the left; then on the right all that differs in one thing."""
    tab = visit.tab
    offered = set()

    def choose(name: str, *then: str) -> None:
        """Each value that can be chosen, and for each of them those of the choices that follow."""
        select = tab.locator(f".world [name={name}]")
        for value in select.locator("option:not([disabled])").all_inner_texts()[::-1]:
            select.select_option(value)
            offered.add(keys_shown(tab)[0])
            check_what_is_shown(tab)
            if then:
                choose(*then)

    choose("digit", "colour")
    tab.locator(".world [name=digit]").select_option("7")
    for name in ("direction", "speed", "fps", "guidance"):
        choose(name)
    everything = {word for key in world()["clips"] for word in key.split()[:6]}
    assert {word for key in offered for word in key.split()[:6]} == everything
    change = tab.locator(".world [name=change]")
    for value in change.locator("option").evaluate_all("(options) => options.map((option) => option.value)"):
        change.select_option(value)
        assert json.loads(value) == json.loads(change.input_value())
        check_what_is_shown(tab)


@pytest.mark.browser
def test_the_tally_counts_all_clips(visit):
    rows = [row.split("\t") for row in visit.tab.locator(".world-tally tr").all_inner_texts()]
    clips = {key: clip["right"] for key, clip in world()["clips"].items()}
    parts = {part: [right for key, right in clips.items() if key.endswith(part)] for part in make_world.PARTS}
    closer = tuple(make_world.parser().parse_args([]).closer)
    by_scale = {
        f"48 sentences, guidance {scale}": [
            right for key, right in clips.items() if key.endswith(f" {scale}") and key.startswith(closer)
        ]
        for scale in (1, 3, 7)
    }
    seen, unseen = (
        [right for key, right in clips.items() if key.endswith(" 3") and prompt_of(key).held_out == held_out]
        for held_out in (False, True)
    )
    expected = (
        by_scale
        | {"guidance 3, never seen": unseen, "guidance 3, seen in training": seen}
        | {f"without {part}": found for part, found in parts.items()}
    )
    said = {row[0].replace("… ", "").replace("without the", "without"): row[1:] for row in rows[1:]}
    for name, found in expected.items():
        shares = [np.mean([right[each] for right in found]) for each in NAMES] + [
            np.mean([all(r.values()) for r in found])
        ]
        errors = [(share * (1 - share) / len(found)) ** 0.5 for share in shares]
        n = 2 if len(found) < 100 else 3
        cells = [f"{fixed(s, n)} ± {fixed(e, n)}" if e else fixed(s, 2) for s, e in zip(shares, errors, strict=True)]
        assert said[name] == [str(len(found)), *cells], name


@pytest.mark.browser
def test_on_a_phone_with_a_finger_then_with_the_keyboard_alone_and_without_motion(phone):
    tab, keys = phone.tab, phone.tab.keyboard
    before = phone.ask(PLACES)
    tab.wait_for_timeout(400)
    assert before == phone.ask(PLACES) == ["100%", "100%"]
    assert tab.get_by_role("button", name="Play").is_visible()
    tab.locator(".world-tries button").nth(1).tap()
    assert tab.locator(".world-head strong").inner_text().startswith("2 of 12")
    tab.get_by_role("button", name="← back").tap()
    tab.locator(".world [name=colour]").tap()
    assert phone.ask("() => document.activeElement.name") == "colour"
    keys.press("Escape")
    assert tab.locator(".world-head strong").inner_text().startswith("1 of 12")
    tab.get_by_role("button", name="next").focus()
    for number in range(2, 13):
        keys.press("Enter")
        assert tab.locator(".world-head strong").inner_text().startswith(f"{number} of 12")
        assert phone.ask("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.get_by_role("button", name="← back").focus()
    keys.press("Space")
    keys.press("Tab")
    while phone.ask("() => document.activeElement.type") != "range":
        keys.press("Tab")
    keys.press("Home")
    keys.press("ArrowRight")
    assert phone.ask(PLACES) == ["14.2857%"] * 2
    assert "frame 2 of 8" in tab.locator(".world-player").inner_text()
    while phone.ask("() => document.activeElement.name") != "speed":
        keys.press("Tab")
    keys.press("ArrowUp")
    assert tab.locator(".world-head strong").inner_text() == "Your choice"
    assert " slowly " in keys_shown(tab)[0]
    check_what_is_shown(tab)
    tab.locator(".world details summary").focus()
    keys.press("Enter")
    assert tab.locator(".world-numbers code").first.is_visible()
    assert phone.ask("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.add_script_tag(path=AXE)
    found = phone.ask("async () => (await axe.run(document, { preload: false })).violations")
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []

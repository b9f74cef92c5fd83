// The page "What moves?": two clips that differ in one thing, what the judge says of them, and things to try.
// The clips and all numbers come from clips.js, which tools/book/make_world.py writes.
"use strict";

{
  const FRAMES = 8;
  const SIZE = 64;
  const PAUSE = 0.7; // seconds between the end of a clip and its start
  const WAYS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };
  const OPPOSITE = { left: "right", right: "left", up: "down", down: "up" };
  const NAMES = ["digit", "colour", "direction", "speed"];
  const lacking = (part) => `without ${part === "order of frames" ? "the " : ""}${part}`;

  const make = (tag, attributes = {}, ...inside) => {
    const made = document.createElementNS(tag in SVG ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  };
  const SVG = { svg: 1, path: 1, circle: 1, line: 1, text: 1 };

  // What is known of a clip -----------------------------------------------------------------------------------

  const keyOf = (c) => [c.digit, c.colour, c.direction, c.speed, c.fps, c.guidance, c.part].join(" ").trim();
  const found = (c) => world.clips[keyOf(c)];
  const asked = (c) => world.speeds[c.speed] / c.fps;
  const sum = (c) => `${world.speeds[c.speed]} / ${c.fps} = ${asked(c).toFixed(2)}`;
  const made = (c) => found(c).seen[3];
  const sentence = (c) => `a ${c.colour} ${c.digit} moving ${c.direction} ${c.speed}`;
  const heldOut = (c) => world.heldOut.includes(`${c.digit} ${c.colour} ${c.direction}`);
  const allRight = (clip) => NAMES.every((name) => clip.right[name]);
  const towards = (way) => (WAYS[way][0] ? `to the ${way}` : `${way}wards`);
  const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

  function verdict(c) {
    const { seen: [digit, colour, direction], right } = found(c);
    const said = { digit: `reads a ${digit}`, colour: `sees ${colour}`, direction: `sees it go ${direction}`, speed: "finds another speed nearer" };
    const wrong = NAMES.filter((name) => !right[name]);
    if (!wrong.length) return "The judge finds digit, colour, direction and speed right.";
    return `The judge finds wrong: ${list(wrong.map((name) => `${name} (it ${said[name]})`))}.`;
  }
  function moves(c) {
    return made(c) < 0.5
      ? `hardly moves: ${made(c).toFixed(2)} pixels a frame, where ${sum(c)} are asked for`
      : `moves ${made(c).toFixed(2)} pixels a frame ${towards(found(c).seen[2])}; asked for are ${sum(c)}`;
  }

  // How often the judge agrees, over clips that `which` picks.
  function count(which, name) {
    const clips = Object.entries(world.clips).filter(([key]) => which(parsed(key))).map(([, clip]) => clip);
    const n = clips.length;
    const right = clips.filter((clip) => (name ? clip.right[name] : allRight(clip))).length;
    return { n, right, share: right / n, error: Math.sqrt((right / n) * (1 - right / n) / n) };
  }
  function parsed(key) {
    const [digit, colour, direction, speed, fps, guidance, ...part] = key.split(" ");
    return { digit, colour, direction, speed, fps, guidance, part: part.join(" ") };
  }
  const whole = (guidance) => (c) => !c.part && c.guidance === guidance;
  const without = (part) => (c) => c.part === part;
  const withGuidance = (guidance) => (c) => whole(guidance)(c) && found({ ...c, guidance: "1" });
  const withParts = (c) => !c.part && found({ ...c, part: "order of frames" }) !== undefined;
  const alike = (c) => (other) => other.digit === c.digit && other.colour === c.colour;
  const both = (one, other) => (c) => one(c) && other(c);
  const readRight = (guidance, which) => count(both(withGuidance(guidance), which), "digit");
  const readWrong = (c) => readRight("1", alike(c)).n - readRight("1", alike(c)).right;
  // A clip that guidance saves, of the digit that is misread most often without it.
  const saved = () => Object.keys(world.clips).map(parsed)
    .filter((c) => withGuidance("1")(c) && !found(c).right.digit && allRight(found({ ...c, guidance: "3" })))
    .sort((one, other) => readWrong(other) - readWrong(one))[0] ?? START;
  const common = (a, b) => NAMES.slice(0, 3).filter((name, i) => found(a).seen[i] === found(b).seen[i]);
  const pairs = (which) => list([...new Set(Object.keys(world.clips).map(parsed).filter(which).map((c) => `${c.colour} ${c.digit}`))]);
  const ofAll = ({ right, n }) => (right === n ? `all ${n}` : `${right} of ${n}`);

  // Things to try ---------------------------------------------------------------------------------------------

  const START = { digit: "7", colour: "red", direction: "left", speed: "quickly", fps: "10", guidance: "3", part: "" };
  const removed = (part, after, question) => ({
    title: part === "order of frames" ? "Shuffle the frames" : `Remove ${part}`,
    change: { part },
    says: (a, b) => `${after(a, b)} Of ${count(without(part)).n} such clips the direction is right in ${count(without(part), "direction").right} (with the whole network in ${count(withParts, "direction").right}), the speed in ${count(without(part), "speed").right} (${count(withParts, "speed").right}), the digit in ${count(without(part), "digit").right} (${count(withParts, "digit").right}).`,
    question,
  });
  const TRIES = [
    {
      title: "One word",
      change: { direction: "right" },
      says: (a, b) => `Both clips began as the same noise, number for number; one word of the sentence differs. The left one ${moves(a)}. The right one goes ${towards(found(b).seen[2])}, ${made(b).toFixed(2)} pixels a frame.`,
      question: "Guess: at 16 frames a second instead of 10, will the digit come further in its eight frames, or less far?",
    },
    {
      title: "More frames a second",
      change: { fps: "16" },
      says: (a, b) => `${made(b) < made(a) ? "Less far" : "Further"}: ${made(b).toFixed(2)} pixels a frame instead of ${made(a).toFixed(2)}. A digit has so many pixels to go in a second, ${world.speeds[a.speed]}, and at ${b.fps} frames a second each frame has a smaller share of them, ${sum(b)}. In a second that makes ${(made(a) * a.fps).toFixed(1)} pixels on the left and ${(made(b) * b.fps).toFixed(1)} on the right.`,
      question: "Which other sentence, at which frame rate, would move just as the right one does from frame to frame?",
    },
    {
      title: "Two ways to 1.5 pixels",
      from: { fps: "16" },
      change: { speed: "slowly", fps: "10" },
      says: (a, b) => `Quickly at ${a.fps} asks for ${sum(a)} pixels a frame, slowly at ${b.fps} for ${sum(b)}: the same. Made are ${made(a).toFixed(2)} and ${made(b).toFixed(2)}. The network is told two different things and has to work out that they agree.`,
      question: "Next, only the word for the digit is another one. What will stay?",
    },
    {
      title: "Another digit",
      change: { digit: "2" },
      says: (a, b) => `The judge reads a ${found(a).seen[0]} and a ${found(b).seen[0]}. What it finds the same in both: ${list(common(a, b)) || "nothing"}. Pixels a frame: ${made(a).toFixed(2)} and ${made(b).toFixed(2)}. The noise that decided how the ${a.digit} is written now decides how the ${b.digit} is.`,
      question: "Guess: what will go wrong without guidance?",
    },
    {
      title: "Guidance 1: none",
      pick: () => ({ ...saved(), guidance: "3" }),
      change: { guidance: "1" },
      says: (a, b) => {
        const others = (c) => !alike(a)(c);
        return `${verdict(b)} The ${a.digit} was chosen because it fails: without guidance the judge reads it right in ${ofAll(readRight("1", alike(a)))} clips, with guidance 3 in ${ofAll(readRight("3", alike(a)))}; ${pairs(both(withGuidance("1"), others))} in ${ofAll(readRight("1", others))} without guidance and ${ofAll(readRight("3", others))} with it. Chapter 10 counts over all digits.`;
      },
      question: "If 3 is good, is 7 better?",
    },
    {
      title: "Guidance 7",
      pick: () => ({ ...saved(), guidance: "3" }),
      change: { guidance: "7" },
      says: (a, b) => `Here ${made(b).toFixed(2)} pixels a frame instead of ${made(a).toFixed(2)}. Over all such clips the digit is right in ${ofAll(count(withGuidance("7"), "digit"))} (with guidance 3 in ${count(withGuidance("3"), "digit").right}) and the speed in ${count(withGuidance("7"), "speed").right} (${count(withGuidance("3"), "speed").right}). Guidance exaggerates what the sentence adds, wanted or not.`,
      question: "Can the network make what it has never seen?",
    },
    {
      title: "Never seen in training",
      from: { direction: "right" },
      change: { direction: "left" },
      says: (a) => `On the left is a combination of digit, colour and direction that was kept from training, on the right one that was not. ${verdict(a)} Of all clips of such combinations here, at guidance 3, all four are right in ${ofAll(count((c) => whole("3")(c) && heldOut(c)))}; of the others in ${ofAll(count((c) => whole("3")(c) && !heldOut(c)))}.`,
      question: "Now take the network apart. Two of its layers let frames hear of each other, temporal attention and temporal convolution. Which one does the motion hang on?",
    },
    removed(
      "temporal attention",
      (a, b) => `Trained with it, and asked to do without, the network makes a clip that ${moves(b)}. ${verdict(b)}`,
      "And the other one, the temporal convolution?",
    ),
    removed(
      "temporal convolution",
      (a, b) => `The clip ${moves(b)}. ${verdict(b)} Look at the frames one by one: through temporal attention they still hear of each other, but as a set, and nothing says which comes first.`,
      "The sentence comes in twice, in space and in time. Is one enough?",
    ),
    removed(
      "text in time",
      (a, b) => `The clip ${moves(b)}. ${verdict(b)}`,
      "Last: all parts stay, but in every step the frames are given in another order. What will be left of the clip?",
    ),
    removed(
      "order of frames",
      (a, b) => `The clip ${moves(b)}. Its middle stays ${average(b).toFixed(1)} pixels from the picture's, ${towards(b.direction)}; that of the whole clip is ${average(a).toFixed(1)} away, on average over its frames. Each frame has stood in the place of many others.`,
      "",
    ),
    {
      title: "Where it fails",
      pick: () => {
        const fails = Object.keys(world.clips).map(parsed).filter((c) => !c.part && !allRight(found(c)));
        return fails.find((c) => c.guidance === "3") ?? fails[0] ?? START;
      },
      change: { guidance: "3" },
      says: (a) => `${verdict(a)} It ${moves(a)}. By the whole network there are ${count((c) => !c.part).n} clips here, ${count((c) => !c.part && c.guidance === "3").n} of them with guidance 3; the judge finds fault with ${count((c) => !c.part).n - count((c) => !c.part).right}, of those with guidance 3 with ${count(whole("3")).n - count(whole("3")).right}. Look for yourself whether you agree: a judge errs, too.`,
      question: "",
    },
  ];
  // How far, along the direction that is asked for, the middle of the digit is from the middle of the picture.
  function average(c) {
    const [x, y] = WAYS[c.direction];
    return found(c).track.reduce((total, [px, py]) => total + (px - (SIZE - 1) / 2) * x + (py - (SIZE - 1) / 2) * y, 0) / FRAMES;
  }

  // Pictures --------------------------------------------------------------------------------------------------

  const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}`;

  class Panel {
    constructor() {
      this.caption = make("figcaption");
      this.picture = make("div", { class: "world-picture", role: "img" });
      this.plot = make("div", { class: "world-plot", "aria-hidden": "true" });
      this.verdict = make("ul", { class: "world-verdict" });
      this.root = make("figure", {}, this.caption, this.picture, this.plot, this.verdict);
    }

    show(c, changed) {
      this.c = c;
      const clip = found(c);
      const word = (name, text = c[name]) => (name in changed ? make("mark", {}, text) : text);
      const settings = [word("fps", `${c.fps} fps`), ", ", word("guidance", `guidance ${c.guidance}`)];
      if (c.part) settings.push(", ", make("mark", {}, lacking(c.part)));
      this.caption.replaceChildren(
        make("strong", {}, "a ", word("colour"), " ", word("digit"), " moving ", word("direction"), " ", word("speed")),
        make("span", {}, ...settings),
        make("small", {}, heldOut(c) ? "never seen in training" : "\u00a0"),
      );
      this.picture.style.backgroundImage = `url(data:image/webp;base64,${clip.webp})`;
      this.picture.setAttribute("aria-label", `${sentence(c)}: it ${moves(c)}. ${verdict(c)}`);
      this.drawTrack(clip, c);
      this.drawPlot(clip, c);
      const { seen, right } = clip;
      const said = { digit: [seen[0], c.digit], colour: [seen[1], c.colour], direction: [seen[2], c.direction], speed: [`${seen[3].toFixed(2)} px a frame`, sum(c)] };
      this.verdict.replaceChildren(...NAMES.map((name) => {
        const [is, should] = said[name];
        const because = name === "speed" ? `asked: ${should}` : right[name] ? "" : `not ${should}`;
        const sign = make("b", { "aria-hidden": "true" }, right[name] ? "✓" : "✗");
        return make("li", { class: `${name} ${right[name] ? "right" : "wrong"}` }, sign, make("span", { class: "visually-hidden" }, right[name] ? "right: " : "wrong: "), `${name} ${is}`, because ? make("small", {}, ` ${because}`) : "");
      }));
    }

    // On the clip itself: where the middle of the ink was, and where it was asked to go.
    drawTrack({ track }, c) {
      const [x, y] = WAYS[c.direction];
      const [x0, y0] = track[0];
      const far = asked(c) * (FRAMES - 1);
      this.dots = track.map(([cx, cy]) => make("circle", { cx: cx + 0.5, cy: cy + 0.5, r: 0.9 }));
      this.picture.replaceChildren(make("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true" },
        make("path", { class: "asked", d: path([[x0 + 0.5, y0 + 0.5], [x0 + 0.5 + x * far, y0 + 0.5 + y * far]]) }), ...this.dots));
    }

    // Pixels from the start in the asked direction, frame by frame: a line's slope is pixels per frame.
    drawPlot({ track }, c) {
      const [dx, dy] = WAYS[c.direction];
      const at = (frame, pixels) => [30 + 17.5 * frame, 72 - 3.1 * Math.max(-3, Math.min(22, pixels))];
      const points = track.map(([x, y], i) => at(i, (x - track[0][0]) * dx + (y - track[0][1]) * dy));
      this.marks = points.map(([cx, cy]) => make("circle", { cx, cy, r: 2.6 }));
      const ticks = [0, 10, 20].flatMap((value) => {
        const [x, y] = at(0, value);
        return [make("line", { x1: x - 6, x2: 158, y1: y, y2: y }), make("text", { x: x - 9, y: y + 4, "text-anchor": "end" }, value)];
      });
      this.plot.replaceChildren(make("svg", { viewBox: "0 0 160 100" }, ...ticks,
        make("path", { class: "asked", d: path([at(0, 0), at(FRAMES - 1, asked(c) * (FRAMES - 1))]) }), ...this.marks,
        make("text", { x: 30, y: 96, "text-anchor": "middle" }, "1"),
        make("text", { x: 91, y: 96, "text-anchor": "middle" }, "frame"),
        make("text", { x: 152, y: 96, "text-anchor": "middle" }, FRAMES)));
    }

    frame(number) {
      this.picture.style.backgroundPositionX = `${(100 * number) / (FRAMES - 1)}%`;
      for (const marks of [this.dots, this.marks]) marks.forEach((mark, i) => mark.classList.toggle("now", i === number));
    }
  }

  // The page --------------------------------------------------------------------------------------------------

  class World {
    constructor(root) {
      this.root = root;
      this.panels = [new Panel(), new Panel()];
      this.build();
      this.moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.number = FRAMES - 1;
      this.try(0);
      this.move(this.moving);
      requestAnimationFrame((now) => this.tick(now));
    }

    build() {
      this.card = make("div", { class: "world-card" });
      this.title = make("strong");
      this.text = make("p", { role: "status" });
      this.question = make("p", { class: "world-question" });
      this.back = make("button", { type: "button" }, "← back");
      this.next = make("button", { type: "button", class: "main" }, "next →");
      this.back.addEventListener("click", () => this.try(this.step - 1));
      this.next.addEventListener("click", () => this.try((this.step ?? -1) + 1));
      this.card.append(make("p", { class: "world-head" }, this.title, make("span", {}, this.back, " ", this.next)), this.text, this.question);

      this.pause = make("button", { type: "button" });
      this.slider = make("input", { type: "range", min: 1, max: FRAMES, step: 1, "aria-label": "Frame" });
      this.output = make("output");
      this.slow = make("input", { type: "checkbox" });
      this.pause.addEventListener("click", () => this.move(!this.moving));
      this.slider.addEventListener("input", () => { this.number = this.slider.value - 1; this.move(false); });
      const player = make("p", { class: "world-player" }, this.pause, make("label", {}, this.slider, this.output), make("label", {}, this.slow, "four times slower"));

      this.tries = make("ol", { class: "world-tries" }, ...TRIES.map(({ title }, i) => {
        const button = make("button", { type: "button" }, title);
        button.addEventListener("click", () => this.try(i));
        return make("li", {}, button);
      }));
      const legend = make("p", { class: "world-legend" }, make("i", { class: "dot" }), " middle of the digit in each frame ", make("i", { class: "dash" }), " what sentence and frame rate ask for; below, the same as pixels from the start, frame by frame");
      this.table = make("div", { class: "world-numbers", tabindex: "0", role: "region", "aria-label": "Both tracks in numbers" });
      const numbers = make("details", {}, make("summary", {}, "Both clips in numbers"), this.table);
      this.root.replaceChildren(this.card, make("div", { class: "world-clips" }, ...this.panels.map((panel) => panel.root)), player, legend, this.chooser(), make("p", { class: "world-label" }, "Things to try"), this.tries, numbers);
      this.root.classList.add("live");
    }

    // The sentence with a choice in the place of each word, and what is changed beside it.
    chooser() {
      const choices = { colour: "colours", digit: "digits", direction: "directions", speed: "speeds", fps: "fps", guidance: "guidance" };
      const labels = { colour: "Colour", digit: "Digit", direction: "Direction", speed: "Speed", fps: "Frames per second", guidance: "Guidance" };
      this.selects = Object.fromEntries(Object.entries(choices).map(([name, key]) => {
        const options = world.choices[key].map((value) => make("option", { value }, value));
        return [name, make("select", { "aria-label": labels[name], name }, ...options)];
      }));
      const { colour, digit, direction, speed, fps, guidance } = this.selects;
      for (const [name, select] of Object.entries(this.selects)) {
        select.addEventListener("change", () => this.own({ ...this.a, [name]: select.value }, this.change));
      }
      this.other = make("select", { "aria-label": "What differs on the right", name: "change" });
      this.other.addEventListener("change", () => this.own(this.a, JSON.parse(this.other.value)));
      return make("div", { class: "world-choose" },
        make("p", {}, make("span", { class: "world-label" }, "Left: "), "a ", colour, " ", digit, " moving ", direction, " ", speed, " at ", fps, " fps, guidance ", guidance),
        make("p", {}, make("span", { class: "world-label" }, "Right: "), "the same noise, but ", this.other),
        make("p", { class: "world-legend" }, `Every digit is there in red, and the 7 in every colour. With other guidance than 3 there are clips of ${pairs(withGuidance("3"))}; without a part, of ${pairs(withParts)}, quickly at 10 fps.`));
    }

    // All single changes of a clip, in groups; and the one double change that asks for the same pixels per frame.
    changes(a) {
      const others = (name, key) => world.choices[key].map(String).filter((value) => value !== a[name])
        .map((value) => ({ label: `${value} instead of ${a[name]}`, change: { [name]: value } }));
      const there = (options) => options.filter(({ change }) => found({ ...a, ...change }));
      const number = (options, before) => options.map(({ label, change }) => ({ label: `${before} ${label}`, change }));
      const directions = others("direction", "directions");
      directions.sort((one, two) => (two.change.direction === OPPOSITE[a.direction]) - (one.change.direction === OPPOSITE[a.direction]));
      const alike = world.choices.speeds.flatMap((speed) => world.choices.fps.map((fps) => ({ speed, fps: String(fps) })))
        .filter((pair) => pair.speed !== a.speed && pair.fps !== a.fps && Math.abs(asked(pair) - asked(a)) < 1e-9)
        .map((change) => ({ label: `${change.speed} at ${change.fps} fps`, change }));
      const parts = world.choices.parts.map((part) => ({ label: lacking(part), change: { part } }));
      return {
        "one word": there([...directions, ...others("speed", "speeds"), ...others("digit", "digits"), ...others("colour", "colours")]),
        "a number": there([...number(others("fps", "fps"), "fps"), ...number(others("guidance", "guidance"), "guidance")]),
        "two things, the same pixels a frame": there(alike),
        "a part of the network removed": there(parts),
      };
    }

    own(a, change) {
      this.step = null;
      this.set(a, change);
      const [left, right] = this.panels.map((panel) => panel.c);
      this.title.textContent = "Your choice";
      this.text.textContent = `Left: it ${moves(left)}. ${verdict(left)} Right: it ${moves(right)}. ${verdict(right)}`;
      this.question.textContent = "";
    }

    try(number) {
      this.step = number;
      const { title, from, pick, change, says, question } = TRIES[number];
      this.set(pick ? pick() : { ...START, ...from }, change);
      this.title.textContent = `${number + 1} of ${TRIES.length} · ${title}`;
      this.text.textContent = says(...this.panels.map((panel) => panel.c));
      this.question.textContent = question;
    }

    set(a, wanted) {
      this.a = a;
      const groups = Object.entries(this.changes(a)).filter(([, options]) => options.length);
      const all = groups.flatMap(([, options]) => options.map(({ change }) => JSON.stringify(change)));
      const value = all.includes(JSON.stringify(wanted)) ? JSON.stringify(wanted) : all[0];
      this.change = JSON.parse(value);
      this.other.replaceChildren(...groups.map(([label, options]) => make("optgroup", { label },
        ...options.map((option) => make("option", { value: JSON.stringify(option.change) }, option.label)))));
      this.other.value = value;
      for (const [name, select] of Object.entries(this.selects)) {
        select.value = a[name];
        for (const option of select.options) option.disabled = !found({ ...a, [name]: option.value });
      }
      this.panels[0].show(a, this.change);
      this.panels[1].show({ ...a, ...this.change }, this.change);
      this.back.disabled = !this.step;
      this.next.disabled = this.step === TRIES.length - 1;
      this.tries.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", i === this.step));
      this.numbers();
      this.began = null;
      this.draw([this.number, this.number]);
    }

    numbers() {
      const head = make("tr", {}, make("th", { scope: "col" }, "frame"), ...Array.from({ length: FRAMES }, (_, i) => make("th", { scope: "col" }, i + 1)));
      const rows = this.panels.flatMap(({ c }, i) => ["x", "y"].map((axis, j) => make("tr", {},
        make("th", { scope: "row" }, `${i ? "right" : "left"}, ${axis}`),
        ...found(c).track.map((centre) => make("td", {}, centre[j].toFixed(1))))));
      const texts = this.panels.map(({ c }, i) => {
        const setting = `${c.fps} frames per second, guidance ${c.guidance}${c.part ? `, ${lacking(c.part)}` : ""}${heldOut(c) ? ", never seen in training" : ""}`;
        return make("p", {}, `${i ? "Right" : "Left"}: “${sentence(c)}”, ${setting}. It ${moves(c)}. ${verdict(c)}`);
      });
      const commands = this.panels.filter(({ c }) => !c.part).map(({ c }) => make("p", {}, make("code", {},
        `python -m vdmlib.sample "${sentence(c)}"`,
        ...[`--fps ${c.fps}`, `--guidance-scale ${c.guidance}`, `--seed ${world.made.seed}`].flatMap((option) => [" ", make("span", {}, option)]))));
      this.table.replaceChildren(...texts, make("p", {}, "The middle of the ink in pixels, from the left (x) and from above (y):"),
        make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)), ...commands);
    }

    // Each clip at its own rate, both from the same moment on; the one that is ready first waits.
    tick(now) {
      if (this.moving) {
        this.began ??= now;
        const rates = this.panels.map(({ c }) => c.fps / (this.slow.checked ? 4 : 1));
        const seconds = (now - this.began) / 1000;
        if (seconds > FRAMES / Math.min(...rates) + PAUSE) this.began = now;
        this.draw(rates.map((rate) => Math.min(FRAMES - 1, Math.floor(seconds * rate))));
      }
      requestAnimationFrame((later) => this.tick(later));
    }

    draw(numbers) {
      numbers.forEach((number, i) => this.panels[i].frame(number));
    }

    move(moving) {
      this.moving = moving;
      this.began = null;
      this.pause.textContent = moving ? "Pause" : "Play";
      this.slider.value = this.number + 1;
      this.output.textContent = moving ? "all frames" : `frame ${this.number + 1} of ${FRAMES}`;
      if (!moving) this.draw([this.number, this.number]);
    }
  }

  // All clips, counted ----------------------------------------------------------------------------------------

  function tally(root) {
    const percent = ({ n, share, error }) => {
      const digits = n < 100 ? 2 : 3; // so that one wrong clip is seen
      return error ? `${share.toFixed(digits)} ± ${error.toFixed(digits)}` : share.toFixed(2);
    };
    const columns = [...NAMES, undefined];
    const row = (name, which) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, count(which).n),
      ...columns.map((column) => make("td", {}, percent(count(which, column)))));
    const rows = [
      row("guidance 3, seen in training", (c) => whole("3")(c) && !heldOut(c)),
      row("guidance 3, never seen", (c) => whole("3")(c) && heldOut(c)),
      ...world.choices.guidance.map((guidance) => row(`${count(withGuidance("3")).n} sentences, guidance ${guidance}`, withGuidance(String(guidance)))),
      row(`${count(withParts).n} sentences, whole network`, withParts),
      ...world.choices.parts.map((part) => row(`… ${lacking(part)}`, without(part))),
    ];
    const head = ["", "clips", ...NAMES, "all four"].map((text) => (text ? make("th", { scope: "col" }, text) : make("td")));
    root.replaceChildren(make("div", { class: "world-numbers", tabindex: "0", role: "region", "aria-label": "How often the judge agrees" },
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))));
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll(".world")) new World(root);
    for (const root of document.querySelectorAll(".world-tally")) tally(root);
  });
}

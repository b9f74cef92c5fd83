// The page "In your browser": what is chosen, shown and drawn there. The model runs in a worker (model.js).
"use strict";

// The world of the small model, as in vdmlib/small/data.py.
const COLOURS = {
  red: [1.0, 0.2, 0.15], yellow: [1.0, 0.85, 0.1], green: [0.1, 0.8, 0.3], blue: [0.15, 0.45, 1.0], pink: [1.0, 0.4, 0.9],
};
const DIGITS = [..."0123456789"];
const DIRECTIONS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };
const SPEEDS = { slowly: 15, quickly: 24 };
const FRAME_RATES = [10, 16];
const [FRAMES, SIZE, TOKENS] = [8, 64, 6];
const BACKGROUND = [0.05, 0.05, 0.09];
const VOCABULARY = ["<empty>", "a", "moving", ...DIGITS, ...Object.keys(COLOURS), ...Object.keys(DIRECTIONS), ...Object.keys(SPEEDS)];

function heldOut(digit, colour, direction) {
  const [c, d] = [Object.keys(COLOURS).indexOf(colour), Object.keys(DIRECTIONS).indexOf(direction)];
  return (Number(digit) + 2 * c + 3 * d) % 10 === 0;
}

function parse(caption) {
  const words = caption.toLowerCase().trim().split(/\s+/).filter(Boolean);
  const unknown = words.filter((word) => !VOCABULARY.slice(1).includes(word));
  const [, colour, digit, , direction, speed] = words;
  const usual = `a ${colour} ${digit} moving ${direction} ${speed}` === words.join(" ")
    && colour in COLOURS && DIGITS.includes(digit) && direction in DIRECTIONS && speed in SPEEDS;
  return { words, unknown, usual, colour, digit, direction, speed };
}

function tokenize({ words }) {
  return [...words, ...Array(TOKENS - words.length).fill("<empty>")].map((word) => VOCABULARY.indexOf(word));
}

// What is wrong with a sentence, or worth knowing about it; "" where there is nothing to say.
function remark(sentence, fps) {
  const { words, unknown, usual, digit, colour, direction } = sentence;
  if (unknown.length) return `The model does not know “${unknown.join("”, “")}”: it knows ${VOCABULARY.slice(1).join(", ")}.`;
  if (words.length > TOKENS) return `That is ${words.length} words: the model reads at most ${TOKENS}.`;
  if (!usual) return "The model was trained on sentences of six words only, such as “a red 7 moving left quickly”: this one is new to it.";
  return [
    heldOut(digit, colour, direction) ? "This digit in this colour and direction was kept from training: the model puts together what it learned apart." : "",
    fps && !FRAME_RATES.includes(fps) ? `The model was trained at ${FRAME_RATES.join(" and ")} frames per second: ${fps} is new to it.` : "",
  ].filter(Boolean).join(" ");
}
const readable = ({ words, unknown }) => !unknown.length && words.length <= TOKENS;

// The model: packed files come as scripts, which works from a folder too, and go to a worker.

const HOME = new URL(".", document.currentScript.src);
const SIZES = { // in megabytes, as they come
  "runtime.js": 0.03, "model.js": 0.01, "ort-wasm-simd-threaded.wasm": 4.87, "t2v.safetensors": 4.66, "t2v.onnx": 0.08,
  "autoencoder.safetensors": 1.76, "decoder.onnx": 0.01, "judge.safetensors": 0.14, "judge.onnx": 0.01, "i2v.safetensors": 2.6, "i2v.onnx": 0.09, "encoder.onnx": 0.01,
};
const GRAPHS = {
  t2v: { t2v: ["t2v.safetensors"], decoder: ["autoencoder.safetensors"], judge: ["judge.safetensors"] },
  i2v: {
    i2v: ["i2v.safetensors", "t2v.safetensors"], encoder: ["autoencoder.safetensors"], decoder: ["autoencoder.safetensors"],
    judge: ["judge.safetensors"],
  },
};
const PATIENCE = 10_000; // milliseconds for a worker to hear of a stop
const model = { worker: null, helper: null, alone: false, sent: new Set(), busy: false };

// The smallest program with an instruction for several numbers at once.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

function missing() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) return "WebAssembly SIMD";
  return "DecompressionStream" in window ? "" : "DecompressionStream";
}

function needs(kind) {
  const graphs = Object.entries(GRAPHS[kind]).filter(([name]) => !model.sent.has(`${name}.onnx`));
  const names = graphs.flatMap(([name, weights]) => [`${name}.onnx`, ...weights]);
  if (!model.worker) names.unshift("runtime.js", "model.js", "ort-wasm-simd-threaded.wasm");
  return { graphs: Object.fromEntries(graphs), names: [...new Set(names)].filter((name) => !model.sent.has(name)) };
}
const size = (names) => names.reduce((sum, name) => sum + SIZES[name], 0);
const megabytes = (names) => Math.round(size(names));

window.packed ??= {};
function fetchPacked(name) {
  if (packed[name]) return packed[name];
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(`packed/${name}.js`, HOME);
    script.onload = script.onerror = () => {
      script.remove();
      if (packed[name]) resolve(packed[name]);
      else reject(new Error(`${name} did not arrive: see whether you are connected, and press the button again.`));
    };
    document.head.append(script);
  });
}

async function unpack(name) {
  const text = atob(await fetchPacked(name));
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// What a worker's error means, in one sentence.
function explain(message) {
  if (/memory|allocat|RangeError|bad_alloc|\bOOM\b/i.test(message)) return "The browser has no memory left for the model: close other tabs, and press the button again.";
  return `The model does not run here (${message}): reload the page, and press the button again.`;
}

function dismiss(name) {
  model[name]?.terminate();
  model[name] = null;
}

function forget() {
  for (const name of ["worker", "helper"]) dismiss(name);
  model.sent.clear();
}

// What the promise brings, unless *Stop* comes first.
function unlessStopped(promise, signal) {
  return Promise.race([promise, new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  })]);
}

// Send something to the worker; `each` sees its messages until one has `last`. A worker that fails or is stopped is ended.
async function request(message, last, signal, each = () => {}) {
  const answer = new Promise((resolve, reject) => {
    model.worker.onmessage = ({ data }) => {
      if (data.alone) {
        dismiss("helper");
        model.alone = true;
      } else if (data.error) reject(new Error(explain(data.error)));
      else if (last.some((name) => name in data)) resolve(data);
      else each(data);
    };
    model.worker.onerror = (event) => reject(new Error(explain(event.message || "the worker ended")));
    model.worker.postMessage(message);
  });
  try {
    return await unlessStopped(answer, signal);
  } catch (error) {
    forget();
    throw error;
  }
}

// A worker, and where there is a processor for it another one that does half of its work.
function engage(script) {
  const url = URL.createObjectURL(script);
  const [worker, helper] = [new Worker(url), model.alone || navigator.hardwareConcurrency < 2 ? null : new Worker(url)];
  URL.revokeObjectURL(url);
  Object.assign(model, { worker, helper });
  if (!helper) return;
  const { port1, port2 } = new MessageChannel();
  helper.postMessage({ helps: port1 }, [port1]);
  worker.postMessage({ helper: port2 }, [port2]);
  helper.onerror = (event) => {
    event.preventDefault();
    worker.postMessage({ failed: true });
  };
}

async function load(kind, signal, progress) {
  if (missing()) throw new Error(`This browser has no ${missing()}, which the model runs on: Chrome 100, Firefox 113, Safari 16.4 and later have it.`);
  const { names, graphs } = needs(kind);
  const files = {};
  for (const [i, name] of names.entries()) {
    progress(size(names.slice(0, i)) / size(names));
    files[name] = await unlessStopped(unpack(name), signal);
  }
  if (!names.length) return;
  progress();
  if (!model.worker) engage(new Blob([files["model.js"], "\n", files["runtime.js"]], { type: "text/javascript" }));
  await request({ start: { files, graphs } }, ["ready"], signal);
  for (const name of names) {
    model.sent.add(name);
    delete packed[name];
  }
}

// Pictures.

const element = (tag, attributes = {}, ...content) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...content);
  return made;
};

// Frames of values from -1 to 1, channels first, as pictures of a canvas; `x` are the latents, three channels of eight.
function frames(values, size, channels, gain) {
  return Array.from({ length: FRAMES }, (_, frame) => {
    const image = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      for (let c = 0; c < 3; c++) {
        const value = values[(frame * channels + c) * size * size + i];
        image.data[4 * i + c] = Math.round((value * gain + 1) * 127.5);
      }
      image.data[4 * i + 3] = 255;
    }
    return image;
  });
}

// A stored picture with a row for each moment and a column for each frame, as pictures of a canvas.
async function cut(image) {
  await image.decode();
  const [width, rows, size] = [image.naturalWidth, image.naturalHeight, image.naturalWidth / FRAMES];
  const context = element("canvas", { width, height: rows }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return Array.from({ length: rows / size }, (_, row) => (
    Array.from({ length: FRAMES }, (_, frame) => context.getImageData(frame * size, row * size, size, size))));
}

// The judge: what it measured in a clip, in the words of a sentence (read_clip() and right_answers() of vdmlib/small/judge.py).

const PIXELS_PER_FRAME = Object.values(SPEEDS).flatMap((speed) => FRAME_RATES.map((rate) => speed / rate));
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const best = (list, score) => list.reduce((a, b) => (score(b) > score(a) ? b : a));
const nearest = (pixels) => best(PIXELS_PER_FRAME, (possible) => -Math.abs(Math.log(Math.max(pixels, 1e-3) / possible)));
const hueOf = (colour) => best(Object.keys(COLOURS), (name) => dot(COLOURS[name], colour) / Math.hypot(...COLOURS[name]));

// A row for each property: [its name, what the sentence says, what the judge reads, whether that is right].
function verdicts({ digit, colour, velocity }, { usual, ...said }, fps) {
  const hue = hueOf(colour);
  const way = best(Object.keys(DIRECTIONS), (name) => dot(DIRECTIONS[name], velocity));
  const [pixels, wanted] = [Math.hypot(...velocity), SPEEDS[said.speed] / fps];
  return [
    ["digit", said.digit, String(digit), said.digit === String(digit)],
    ["colour", said.colour, hue, said.colour === hue],
    ["direction", said.direction, way, said.direction === way],
    ["pixels a frame", `${SPEEDS[said.speed]} / ${fps} = ${wanted.toFixed(2)}`, pixels.toFixed(2),
      FRAME_RATES.includes(fps) ? nearest(pixels) === nearest(wanted) : undefined],
  ].map((row) => (usual ? row : [row[0], "", row[2]]));
}

// Of a drawing: whether it and the sentence agree, and which of them the clip follows, in its last frame and its colour.
function comparison(drawn, last, { usual, digit, colour }, ink = colour, hue = colour) {
  const won = (seen, said, given) => ({ [said]: "the sentence has won", [given]: "the drawing has won" }[seen] ?? "neither has won");
  const read = `The judge reads ${drawn} in the drawing and ${last} in the last frame`;
  if (!usual) return `${read}.`;
  const shape = drawn === Number(digit)
    ? `${read}; the sentence says ${digit} as well.`
    : `${read}; the sentence says ${digit}. Drawing and sentence disagree, and ${won(last, digit, drawn)}.`;
  if (ink === colour) return shape;
  return `${shape} The drawing is ${ink}, the sentence says ${colour}, and the judge sees ${hue} in the clip: ${won(hue, colour, ink)}.`;
}

// A drawing becomes a picture like those of the training: 30 pixels high or wide, its centre of mass in the middle.

const EXAMPLES = { // strokes of x, y, x, y, ...
  0: [[50, 15, 32, 24, 25, 50, 32, 76, 50, 85, 68, 76, 75, 50, 68, 24, 50, 15]],
  1: [[38, 28, 53, 15, 53, 85]],
  2: [[27, 32, 35, 18, 52, 14, 68, 24, 68, 40, 50, 60, 26, 84, 76, 84]],
  3: [[28, 20, 48, 13, 66, 22, 66, 36, 46, 47, 68, 58, 70, 74, 52, 87, 28, 80]],
  4: [[60, 85, 60, 14, 24, 62, 78, 62]],
  5: [[72, 15, 34, 15, 31, 46, 52, 42, 70, 53, 70, 72, 52, 86, 28, 80]],
  6: [[64, 14, 42, 30, 30, 58, 36, 80, 54, 86, 70, 74, 66, 56, 48, 51, 32, 62]],
  7: [[24, 16, 76, 16, 56, 48, 44, 86]],
  8: [[66, 24, 50, 14, 34, 24, 38, 40, 62, 54, 68, 72, 50, 86, 32, 72, 38, 54, 62, 40, 66, 24]],
  9: [[68, 30, 50, 14, 32, 28, 36, 46, 54, 50, 68, 30, 66, 60, 58, 86]],
};

function inkOf(strokes, dx, dy) {
  const xs = strokes.flatMap((stroke) => stroke.filter((_, i) => i % 2 === 0));
  const ys = strokes.flatMap((stroke) => stroke.filter((_, i) => i % 2 === 1));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = 30 / Math.max(right - left, bottom - top, 1);
  const context = element("canvas", { width: SIZE, height: SIZE }).getContext("2d", { willReadFrequently: true });
  context.strokeStyle = "#fff";
  context.lineWidth = 4.5;
  context.lineCap = context.lineJoin = "round";
  context.translate(SIZE / 2 + dx, SIZE / 2 + dy);
  for (const stroke of strokes) {
    context.beginPath();
    for (let i = 0; i < stroke.length; i += 2) {
      context.lineTo((stroke[i] - (left + right) / 2) * scale, (stroke[i + 1] - (top + bottom) / 2) * scale);
    }
    if (stroke.length === 2) context.lineTo((stroke[0] - (left + right) / 2) * scale, (stroke[1] - (top + bottom) / 2) * scale + 0.1);
    context.stroke();
  }
  let ink = Float32Array.from({ length: SIZE * SIZE }, ((data) => (_, i) => data[4 * i + 3] / 255)(context.getImageData(0, 0, SIZE, SIZE).data));
  for (const step of [1, SIZE]) ink = ink.map((value, i) => (value + ((ink[i - step] ?? 0) + (ink[i + step] ?? 0)) / 4) / 1.5); // soft edges
  return ink;
}

// Bytes of a 64 × 64 picture, three for each pixel.
function picture(strokes, colour) {
  let ink = inkOf(strokes, 0, 0);
  let [mass, x, y] = [0, 0, 0];
  ink.forEach((value, i) => { mass += value; x += value * (i % SIZE); y += value * Math.floor(i / SIZE); });
  ink = inkOf(strokes, (SIZE - 1) / 2 - x / mass, (SIZE - 1) / 2 - y / mass);
  return Uint8Array.from({ length: 3 * ink.length }, (_, i) => {
    const [pixel, c] = [Math.floor(i / 3), i % 3];
    return Math.round(255 * (BACKGROUND[c] + ink[pixel] * (COLOURS[colour][c] - BACKGROUND[c])));
  });
}

// A panel: what one chooses above, what the model makes of it below.

const options = (names, chosen) => names.map((name) => `<option${name === chosen ? " selected" : ""}>${name}</option>`).join("");
const menu = (name, names, chosen) => `<select name="${name}" aria-label="${name}">${options(names, chosen)}</select>`;
const PAD = `
  <div class="demo-draw">
    <canvas width="280" height="280" role="img" aria-label="A place to draw on with a mouse or a finger"></canvas>
    <p><button type="button" name="example">Draw it for me</button> <button type="button" name="clear">Clear</button></p>
    <p><label>ink <select name="ink"><option value="">as the sentence says</option>${options(Object.keys(COLOURS))}</select></label></p>
  </div>`;
const panel = (kind) => `
  <form>
    ${kind === "i2v" ? PAD : ""}
    <div class="demo-choices">
      <p role="group" aria-label="The sentence, word by word">a ${menu("colour", Object.keys(COLOURS), "red")} ${menu("digit", DIGITS, "7")}
        moving ${menu("direction", Object.keys(DIRECTIONS), "left")} ${menu("speed", Object.keys(SPEEDS), "quickly")}</p>
      <p><label>or as text <input name="caption" value="a red 7 moving left quickly" autocomplete="off" spellcheck="false"></label></p>
      <p class="demo-remark" aria-live="polite"></p>
      <p class="demo-numbers">
        <label>frames per second <input name="fps" type="number" min="1" max="60" step="any" value="10" required></label>
        <label>guidance <input name="guidance" type="number" min="0" max="20" step="any" value="${kind === "i2v" ? 2 : 3}" required></label>
        <label>steps <select name="steps">${options(["5", "10", "20", "25", "50", "100"], "25")}</select></label>
        <label>seed <input name="seed" type="number" min="0" max="4294967295" step="1" value="0" required></label>
      </p>
      <p><label><input name="every" type="checkbox"> show the guess at every step, not at ten of them (takes longer)</label></p>
      <p><button name="make"></button> <button type="button" name="stop" hidden>Stop</button></p>
    </div>
  </form>
  <p role="status"></p>
  <progress hidden aria-label="How far it is"></progress>
  <div class="demo-result" hidden>
    <p class="demo-stored">Made before, by the same model, and stored with this page. Yours will take its place.</p>
    <div class="demo-clips">
      <figure><canvas class="noisy" role="img"></canvas><figcaption></figcaption></figure>
      <figure><canvas class="guess" role="img"></canvas><figcaption></figcaption></figure>
      <figure hidden><canvas class="beside" role="img"></canvas><figcaption></figcaption></figure>
    </div>
    <p class="demo-steps"><button type="button" name="pause"></button> <label>step <input name="step" type="range" min="0" value="0"></label> <output></output></p>
    <canvas class="strip" role="img"></canvas>
    <p class="demo-digits" role="img">${"<span></span>".repeat(FRAMES)}</p>
    <table>
      <caption>What <a href="10_judging.html">the judge</a> reads in these eight frames; under each one, the digit in that frame alone</caption>
      <thead><tr><td></td><th scope="col">the sentence says</th><th scope="col">the judge reads</th></tr></thead>
      <tbody></tbody>
    </table>
    <p class="demo-reading"></p>
    <p class="demo-command"></p>
  </div>`;

function makePanel(root) {
  const kind = root.dataset.kind;
  const stored = [...root.querySelectorAll("img")];
  root.innerHTML = panel(kind);
  const find = (selector) => root.querySelector(selector);
  const field = (name) => find(`[name="${name}"]`);
  const form = find("form");
  const [status, progress, result] = [find("[role=status]"), find("progress"), find(".demo-result")];
  const strokes = [...EXAMPLES[7]];
  let lent = true; // whether they are an example's, which the first stroke of one's own replaces
  let made = null; // what the clip was made from
  let moments = []; // what the model had at some of the steps: { step, timestep, noisy, guess, judged }; the clip is the last
  let shown = 0;
  let beside = null; // another clip to compare with
  let moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let stop = null;
  let stopping = null; // a timer, from the press of "Stop" on

  // What is chosen.

  const WORDS = ["colour", "digit", "direction", "speed"];
  const sentence = () => parse(field("caption").value);
  const fps = () => Number(field("fps").value);

  function follow() {
    find(".demo-remark").textContent = remark(sentence(), fps());
    const names = needs(kind).names;
    field("make").textContent = names.length ? `Load the model (${megabytes(names)} MB) and make a clip` : "Make a clip";
    if (kind === "i2v") paint();
  }
  form.addEventListener("input", (event) => {
    if (WORDS.includes(event.target.name)) {
      const [colour, digit, direction, speed] = WORDS.map((name) => field(name).value);
      field("caption").value = `a ${colour} ${digit} moving ${direction} ${speed}`;
    } else if (event.target.name === "caption") {
      const typed = sentence();
      for (const name of WORDS) if (typed.usual) field(name).value = typed[name];
    }
    follow();
  });

  // The drawing.

  const ink = () => field("ink").value || field("colour").value;

  function paint() {
    const pad = find(".demo-draw canvas");
    const context = pad.getContext("2d");
    const css = (rgb) => `rgb(${rgb.map((value) => Math.round(255 * value))})`;
    context.fillStyle = css(BACKGROUND);
    context.fillRect(0, 0, pad.width, pad.height);
    context.strokeStyle = css(COLOURS[ink()]);
    context.lineWidth = 20;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes) {
      context.beginPath();
      for (let i = 0; i < stroke.length; i += 2) context.lineTo(stroke[i] * 2.8, stroke[i + 1] * 2.8);
      if (stroke.length === 2) context.lineTo(stroke[0] * 2.8, stroke[1] * 2.8 + 0.1);
      context.stroke();
    }
  }

  function listenToDrawing() {
    const pad = find(".demo-draw canvas");
    const point = (event) => {
      const box = pad.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100];
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      if (lent) strokes.length = 0;
      lent = false;
      strokes.push(point(event));
      paint();
    });
    pad.addEventListener("pointermove", (event) => {
      if (!pad.hasPointerCapture(event.pointerId)) return;
      strokes.at(-1).push(...point(event));
      paint();
    });
    const lend = (example) => {
      strokes.splice(0, Infinity, ...example);
      lent = true;
      paint();
    };
    field("clear").addEventListener("click", () => lend([]));
    field("example").addEventListener("click", () => lend(EXAMPLES[field("digit").value]));
  }

  // What is shown.

  function draw(now) {
    const frame = moving ? Math.floor((now / 1000) * made.fps) % FRAMES : 0;
    const moment = moments[shown];
    const put = (selector, images) => {
      const canvas = find(selector);
      if (canvas.width !== images[0].width) canvas.width = canvas.height = images[0].width;
      canvas.getContext("2d").putImageData(images[frame], 0, 0);
    };
    if (moment) {
      put(".noisy", moment.noisy);
      put(".guess", moment.guess);
      if (beside) put(".beside", beside);
    }
    if (moving) requestAnimationFrame(draw);
  }

  function describe(selector, text) {
    find(selector).setAttribute("aria-label", text);
    find(`${selector} + figcaption`).textContent = text;
  }

  function compare(clip, text) {
    beside = clip;
    find(".beside").parentElement.hidden = !clip;
    describe(".beside", `${text}: “${made?.caption}”, seed ${made?.seed}`);
  }

  function show(index) {
    shown = index;
    const { guess, step, timestep, judged, final } = moments[index];
    const strip = find(".strip");
    strip.width = SIZE * FRAMES;
    strip.height = SIZE;
    guess.forEach((image, frame) => strip.getContext("2d").putImageData(image, frame * SIZE, 0));
    const channels = "8\u00a0×\u00a08, three of eight channels as red, green, blue";
    describe(".noisy", final ? `The clean latents, ${channels}` : `What the network is given at timestep ${timestep}: noisy latents xₜ, ${channels}`);
    describe(".guess", final ? `The clip: “${made.caption}”, seed ${made.seed}` : "What it takes the clip to be: x̂₀, decoded");
    strip.setAttribute("aria-label", `${find(".guess").getAttribute("aria-label")}, its eight frames side by side`);
    find(".demo-digits").setAttribute("aria-label", `The digit in each frame: ${judged.digits.join(", ")}`);
    judged.digits.forEach((digit, frame) => { find(".demo-digits").children[frame].textContent = digit; });
    const sentence = parse(made.caption);
    find("tbody").replaceChildren(...verdicts(judged, sentence, made.fps).map(([name, said, read, right]) => {
      const mark = { true: "✓ ", false: "✗ " }[right] ?? "";
      return element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { textContent: said }), element("td", { textContent: mark + read }));
    }));
    find(".demo-reading").textContent = kind === "i2v" ? comparison(made.drawn, judged.digits.at(-1), sentence, made.ink, hueOf(judged.colour)) : "";
    field("step").max = moments.length - 1;
    field("step").value = index;
    find("output").textContent = final ? "the clip" : `${step} of ${made.steps}`;
    if (result.hidden) {
      result.hidden = false;
      setMoving(moving);
    } else if (!moving) draw(0);
  }

  // The clip that is stored with the page, from early on: already at the third step one sees where it is going.
  async function showStored() {
    const [noisy, guesses] = await Promise.all(stored.slice(0, 2).map(cut));
    if (made) return;
    made = { ...JSON.parse(root.dataset.stored), image: stored[2]?.src };
    moments = made.moments.map((moment, i) => ({ ...moment, noisy: noisy[i], guess: guesses[i] }));
    compare(guesses.at(-1), "The clip that it becomes");
    command();
    show(2);
  }

  function setMoving(value) {
    moving = value;
    field("pause").textContent = moving ? "Pause" : "Play";
    draw(performance.now());
  }

  // The work.

  function choices() {
    const number = (name) => Number(field(name).value);
    const asked = { kind, caption: sentence().words.join(" "), tokens: tokenize(sentence()), fps: fps() };
    for (const name of ["guidance", "steps", "seed"]) asked[name] = number(name);
    asked.every = field("every").checked;
    if (kind === "i2v") {
      asked.ink = ink();
      const bytes = picture(strokes, asked.ink);
      asked.picture = Float32Array.from({ length: bytes.length }, (_, i) => bytes[(i % (SIZE * SIZE)) * 3 + Math.floor(i / (SIZE * SIZE))] / 127.5 - 1);
      const canvas = element("canvas", { width: SIZE, height: SIZE });
      const image = new ImageData(SIZE, SIZE);
      image.data.set(Uint8Array.from({ length: 4 * SIZE * SIZE }, (_, i) => (i % 4 === 3 ? 255 : bytes[(i >> 2) * 3 + (i % 4)])));
      canvas.getContext("2d").putImageData(image, 0, 0);
      asked.image = canvas.toDataURL();
    }
    return asked;
  }

  async function work(signal) {
    const asked = choices();
    await load(kind, signal, (share) => {
      if (share === undefined) {
        progress.removeAttribute("value");
        status.textContent = "The model is there and is being started: some seconds more.";
      } else progress.value = share;
    });
    if (asked.picture) {
      const still = Float32Array.from({ length: FRAMES * asked.picture.length }, (_, i) => asked.picture[i % asked.picture.length]);
      asked.drawn = (await request({ judge: still }, ["judged"], signal)).judged.digit;
    }
    if (stopping) return "Stopped.";
    status.textContent = `Denoising in ${asked.steps} steps.`;
    const last = moments.at(-1);
    compare(last?.final ? last.guess : null, "The clip before");
    made = asked;
    moments = [];
    find(".demo-stored").hidden = true;
    find(".demo-command").textContent = "";
    const end = await request({ sample: asked }, ["clip", "stopped"], signal, ({ step, x, guess, ...about }) => {
      progress.value = step / asked.steps;
      if (!guess) return;
      moments.push({ step, noisy: frames(x, 8, 8, 0.4), guess: frames(guess, SIZE, 3, 1), ...about });
      show(moments.length - 1);
    });
    if (end.stopped) return `Stopped after step ${end.stopped}.`;
    moments.push({ noisy: frames(end.x, 8, 8, 0.4), guess: frames(end.clip, SIZE, 3, 1), judged: end.judged, final: true });
    show(moments.length - 1);
    Object.assign(root, end);
    command();
    return `The clip is made, in ${end.seconds.toFixed(1)} seconds.`;
  }

  function command() {
    const { caption, image, seed, fps, steps, guidance } = made;
    const given = image ? " --kind i2v --image drawing.png" : "";
    const text = `python -m vdmlib.sample "${caption}"${given} --seed ${seed} --fps ${fps} --steps ${steps} --guidance-scale ${guidance}`;
    const parts = text.split(/ (?=--)/).flatMap((part) => [element("span", { textContent: part }), " "]).slice(0, -1);
    find(".demo-command").append("The same clip on your machine: ", element("code", {}, ...parts));
    if (image) find(".demo-command").append(" with ", element("a", { href: image, download: "drawing.png", textContent: "the drawing" }), ".");
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!readable(sentence())) status.textContent = remark(sentence(), fps());
    else if (kind === "i2v" && !strokes.length) status.textContent = "Draw a digit first, or press “Draw it for me”.";
    else if (model.busy) status.textContent = "The other clip is still being made: wait for it, or stop it.";
    else {
      stop = new AbortController();
      stopping = null;
      model.busy = true;
      field("stop").hidden = progress.hidden = false;
      field("make").disabled = true;
      progress.value = 0;
      status.textContent = "Loading.";
      try {
        status.textContent = await work(stop.signal);
      } catch (error) {
        status.textContent = stop.signal.aborted ? "Stopped." : `No clip: ${error.message}`;
      }
      clearTimeout(stopping);
      model.busy = false;
      field("stop").hidden = progress.hidden = true;
      field("make").disabled = false;
      document.querySelectorAll(".demo").forEach((each) => each.dispatchEvent(new Event("follow")));
    }
  });
  field("stop").addEventListener("click", () => {
    // Between two steps the worker hears it; while it loads, or when it hears nothing, it is ended.
    if (!stopping && model.worker && model.sent.has(`${kind}.onnx`)) {
      model.worker.postMessage({ stop: true });
      status.textContent = "Stopping after this step.";
      stopping = setTimeout(() => stop.abort(), PATIENCE);
    } else stop.abort();
  });
  field("pause").addEventListener("click", () => setMoving(!moving));
  field("step").addEventListener("input", () => show(Number(field("step").value)));
  root.addEventListener("follow", follow);
  if (kind === "i2v") listenToDrawing();
  follow();
  showStored();
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".demo").forEach(makePanel));

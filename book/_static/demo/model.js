// The worker of the page "In your browser": the small model, as vdmlib samples it.
// It follows vdmlib/small/model.py, vdmlib/sampling.py and torch.randn line for line, so that a seed means the same clip.
"use strict";

const SHAPE = [1, 8, 8, 8, 8]; // latents of a clip: b f c h w
const SIZE = 64;

// The memory that the runtime asks for could grow to 4 GiB, which some phones refuse to promise: 256 MiB are plenty.
const PAGES = 4096;
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(limits) {
    super({ ...limits, maximum: Math.min(limits.maximum ?? PAGES, PAGES) });
  }
};

// Random numbers: the Mersenne Twister, and torch's way from it to normal numbers.

class Random {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.next = 624;
  }

  integer() {
    const s = this.state;
    if (this.next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.next = 0;
    }
    let y = s[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // As many as a multiple of 16: torch makes them in blocks of 16, eight pairs in each (Box and Muller).
  normal(count) {
    const values = Float32Array.from({ length: count }, () => (this.integer() & 0xffffff) / 0x1000000);
    for (let block = 0; block < count; block += 16) {
      for (let i = block; i < block + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
        const angle = 2 * Math.PI * values[i + 8];
        values[i] = radius * Math.cos(angle);
        values[i + 8] = radius * Math.sin(angle);
      }
    }
    return values;
  }
}

// The levels that DDIM visits, most noise first: small_schedule() and ddim_steps(), with as much noise put back (eta = 1)
// as the model's card says.

function ddimSteps(steps) {
  const angle = (i) => Math.cos((((i / 1000 + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  const alphas = [];
  for (let i = 0, product = 1; i < 1000; i++) {
    product *= 1 - Math.min(Math.max(1 - angle(i + 1) / angle(i), 0), 0.999);
    alphas.push(Math.fround(product));
  }
  const plan = [];
  for (let i = 0, before = 0; i < steps; i++) {
    const timestep = (i * 1000) / steps + 1;
    const alpha = alphas[timestep];
    const alphaPrev = alphas[before];
    const sigma = Math.sqrt(((1 - alphaPrev) / (1 - alpha)) * (1 - alpha / alphaPrev));
    plan.unshift({ timestep, alpha, alphaPrev, sigma, direction: Math.sqrt(Math.max(1 - alphaPrev - sigma ** 2, 0)) });
    before = timestep;
  }
  return plan;
}

// The steps after which the guess is decoded and judged, most of them early on, where most happens: what a decoder takes is
// less than a denoiser's call, but it adds up.
const LOOKS = 10;
function looks(steps, every) {
  const all = Array.from({ length: steps }, (_, i) => i);
  const some = Array.from({ length: LOOKS }, (_, i) => Math.round((steps - 1) * (i / (LOOKS - 1)) ** 2));
  return new Set(every ? all : some);
}

// The networks. A second worker may help: the leading one asks it through a port, and each does half of the work. Where the
// helper fails, for want of memory or otherwise, the leading one goes on alone.

const sessions = {};
const files = {};
let helper = null;
let failed = null; // what to call when the page hears that the helper has ended

function ask(message) {
  const answer = new Promise((resolve, reject) => {
    failed = reject;
    helper.onmessage = ({ data }) => (data.error ? reject() : resolve(data.answer));
    helper.postMessage(message);
  });
  return answer.catch(() => {
    helper = null;
    postMessage({ alone: true });
  });
}

function help(port) {
  port.onmessage = ({ data }) => {
    const answer = data.start ? start(data.start) : run(...data.run);
    answer.then((found) => port.postMessage({ answer: found }), (error) => port.postMessage({ error: said(error) }));
  };
}

async function start(given) {
  Object.assign(files, given.files);
  ort.env.wasm.wasmBinary = files["ort-wasm-simd-threaded.wasm"];
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  for (const [name, weights] of Object.entries(given.graphs)) {
    sessions[name] = await ort.InferenceSession.create(new Uint8Array(files[`${name}.onnx`]), {
      externalData: weights.map((path) => ({ path, data: new Uint8Array(files[path]) })),
      logSeverityLevel: 3, // errors only
    });
  }
}

async function lead(given) {
  await Promise.all([start(given), helper && ask({ start: given })]);
  postMessage({ ready: true });
}

// What a network gives, in the order of its outputs, for inputs of [values, shape].
async function run(name, inputs) {
  const tensors = Object.entries(inputs).map(([input, [values, shape]]) => {
    const type = values instanceof Int32Array ? "int32" : "float32";
    return [input, new ort.Tensor(type, type === "int32" ? values : Float32Array.from(values), shape)];
  });
  const outputs = await sessions[name].run(Object.fromEntries(tensors));
  return sessions[name].outputNames.map((output) => outputs[output].data);
}

const spent = {}; // seconds in each network, in the last clip
async function timed(name, work) {
  const begin = performance.now();
  const found = await work;
  spent[name] = (spent[name] ?? 0) + (performance.now() - begin) / 1000;
  return found;
}

// The first output for each of two inputs.
async function both(name, one, two) {
  const there = helper && ask({ run: [name, two] });
  const [first] = await run(name, one);
  const [second] = (await there) ?? (await run(name, two));
  return [first, second];
}

// Frame by frame, so that either half of a clip can be decoded alone.
async function decode(latents) {
  const [half, shape] = [latents.length / 2, [1, SHAPE[1] / 2, ...SHAPE.slice(2)]];
  const halves = [latents.slice(0, half), latents.slice(half)].map((part) => ({ latents: [part, shape] }));
  const [first, second] = await timed("decoder", both("decoder", ...halves));
  const clip = new Float32Array(2 * first.length);
  clip.set(first);
  clip.set(second, first.length);
  return clip;
}

// What the judge measures in a clip; its digit is the one with the highest mean of the frames' log-probabilities.
async function judge(clip) {
  const [logs, colour, velocity] = await timed("judge", run("judge", { video: [clip, [1, 8, 3, SIZE, SIZE]] }));
  const rows = Array.from({ length: 8 }, (_, frame) => [...logs.slice(10 * frame, 10 * frame + 10)]);
  const most = (row) => row.indexOf(Math.max(...row));
  const sums = rows.reduce((a, b) => a.map((value, i) => value + b[i]));
  return { digit: most(sums), digits: rows.map(most), colour: [...colour], velocity: [...velocity] };
}

let stopped = false;

async function sample({ kind, tokens, fps, guidance, steps, seed, picture, every }) {
  stopped = false;
  for (const name of Object.keys(spent)) spent[name] = 0;
  const begin = performance.now();
  const sentence = (words) => [Int32Array.from(words), [1, words.length]];
  const inputs = { fps: [[fps], [1]] };
  if (picture) {
    const [latents] = await run("encoder", { picture: [picture, [1, 3, SIZE, SIZE]] });
    inputs.first_frame = [latents, [1, ...SHAPE.slice(2)]];
  }
  const random = new Random(seed);
  const x = random.normal(SHAPE.reduce((a, b) => a * b));
  const x0 = new Float32Array(x.length);
  const [plan, looked] = [ddimSteps(steps), looks(steps, every)];
  for (const [index, { timestep, alpha, alphaPrev, sigma, direction }] of plan.entries()) {
    const noisy = x.slice();
    const given = { ...inputs, x: [x, SHAPE], timestep: [[timestep], [1]] };
    const sentences = [tokens.map(() => 0), tokens].map((words) => ({ ...given, tokens: sentence(words) }));
    const [uncond, cond] = await timed(kind, both(kind, ...sentences));
    const [signal, noise] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)];
    const fresh = random.normal(x.length);
    for (let i = 0; i < x.length; i++) {
      const v = uncond[i] + guidance * (cond[i] - uncond[i]);
      const eps = signal * v + noise * x[i];
      x0[i] = signal * x[i] - noise * v;
      x[i] = Math.sqrt(alphaPrev) * x0[i] + direction * eps + sigma * fresh[i];
    }
    const look = { step: index + 1 };
    if (looked.has(index)) {
      const guess = await decode(x0);
      Object.assign(look, { timestep, x: noisy, guess, judged: await judge(guess) });
    }
    postMessage(look);
    await new Promise((resolve) => setTimeout(resolve)); // hears "stop" here
    if (stopped) return postMessage({ stopped: index + 1 });
  }
  const clip = await decode(x);
  postMessage({ x, clip, judged: await judge(clip), seconds: (performance.now() - begin) / 1000, spent });
}

const said = (error) => (error?.message ? `${error.name}: ${error.message}` : String(error));

onmessage = ({ data }) => {
  if (data.stop) stopped = true;
  if (data.helps) help(data.helps);
  if (data.helper) helper = data.helper;
  if (data.failed) failed?.();
  const work = async () => {
    if (data.start) await lead(data.start);
    if (data.judge) postMessage({ judged: await judge(data.judge) });
    if (data.sample) await sample(data.sample);
  };
  work().catch((error) => postMessage({ error: said(error) }));
};

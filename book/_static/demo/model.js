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

// The networks.

const sessions = {};
const files = {};

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
  postMessage({ ready: true });
}

const spent = {}; // seconds in each network, in the last clip

// What a network gives, in the order of its outputs.
async function run(name, inputs) {
  const begin = performance.now();
  const outputs = await sessions[name].run(inputs);
  spent[name] = (spent[name] ?? 0) + (performance.now() - begin) / 1000;
  return sessions[name].outputNames.map((output) => outputs[output].data);
}

const floats = (values, shape = [values.length]) => new ort.Tensor("float32", Float32Array.from(values), shape);
const decode = async (latents) => (await run("decoder", { latents: floats(latents, SHAPE) }))[0];

// What the judge measures in a clip; its digit is the one with the highest mean of the frames' log-probabilities.
async function judge(clip) {
  const [logs, colour, velocity] = await run("judge", { video: floats(clip, [1, 8, 3, SIZE, SIZE]) });
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
  const inputs = {
    tokens: new ort.Tensor("int32", Int32Array.from(tokens), [1, tokens.length]),
    fps: floats([fps]),
    guidance: floats([guidance]),
  };
  if (picture) {
    const [latents] = await run("encoder", { picture: floats(picture, [1, 3, SIZE, SIZE]) });
    inputs.first_frame = floats(latents, [1, ...SHAPE.slice(2)]);
  }
  const random = new Random(seed);
  const x = random.normal(SHAPE.reduce((a, b) => a * b));
  const x0 = new Float32Array(x.length);
  const [plan, looked] = [ddimSteps(steps), looks(steps, every)];
  for (const [index, { timestep, alpha, alphaPrev, sigma, direction }] of plan.entries()) {
    const noisy = x.slice();
    const [v] = await run(kind, { ...inputs, x: floats(x, SHAPE), timestep: floats([timestep]) });
    const [signal, noise] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)];
    const fresh = random.normal(x.length);
    for (let i = 0; i < x.length; i++) {
      const eps = signal * v[i] + noise * x[i];
      x0[i] = signal * x[i] - noise * v[i];
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

onmessage = ({ data }) => {
  if (data.stop) stopped = true;
  const work = async () => {
    if (data.start) await start(data.start);
    if (data.judge) postMessage({ judged: await judge(data.judge) });
    if (data.sample) await sample(data.sample);
  };
  work().catch((error) => postMessage({ error: String(error?.message ?? error) }));
};

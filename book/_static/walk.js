// The map one can walk: draws the networks that tools/book/walk.py describes, and shows the block that is chosen.
"use strict";

// In a block of its own, since other scripts of a page, those of the sliders, use some of these names.
{
function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

const inMillions = (n) => (n < 1e5 ? n.toLocaleString("en") : `${(n / 1e6).toFixed(1)}\u00a0million`);
const times = (n, power) => `${n}\u00a0·\u00a010${power}`;
const inBillions = (n) => times(n < 5e8 ? (n / 1e9).toFixed(2) : Math.round(n / 1e9).toLocaleString("en"), "⁹");
const inPercent = (part, all) => (part / all < 0.0005 ? "under 0.1\u00a0%" : `${((100 * part) / all).toFixed(1)}\u00a0%`);
const shape = (numbers) => numbers.join("\u00a0×\u00a0");
// As tools/book/walk.py writes it.
const anchor = (name) => `#${name.replace(/[ _]/g, "-")}`;
const title = (name) => (name === "init_attention" ? "Initial attention" : name[0].toUpperCase() + name.slice(1));

class Walk {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector(".walk-data").textContent);
    this.map = root.querySelector(".walk-map");
    this.card = root.querySelector(".walk-card");
    this.about = root.querySelector(".walk-about");
    this.layers = root.querySelector(".walk-layers");
    this.buildCard();
    root.querySelector(".walk-networks").addEventListener("change", (event) => this.showNetwork(event.target.value));
    this.map.addEventListener("click", (event) => {
      const button = event.target.closest("[role=radio]");
      if (button) this.visit(button.dataset.name);
    });
    this.map.addEventListener("keydown", (event) => this.onKey(event));
    root.querySelector(".walk-live").hidden = false;
    this.chosen = this.data.chosen;
    // A browser may come back to a page with another button pressed.
    this.showNetwork(root.querySelector(".walk-networks input:checked").value);
    // Without scripts they let an address lead to the map. With them a choice must not move the page.
    for (const place of root.querySelectorAll(".walk-place")) place.remove();
    addEventListener("hashchange", () => this.named() !== this.chosen && this.follow());
    if (location.hash) this.follow();
  }

  // The address of a block -------------------------------------------------------------------------------

  // The arrow keys leave no trace in the history: back would take too many steps.
  visit(name, leaveNoTrace = false) {
    this.choose(name);
    if (leaveNoTrace) location.replace(anchor(name));
    else location.hash = anchor(name);
  }

  named() {
    return location.hash ? [...this.blocks.keys()].find((name) => anchor(name) === location.hash) : this.data.chosen;
  }

  follow() {
    if (!this.named()) return;
    this.choose(this.named());
    this.card.scrollIntoView({ block: "nearest" });
  }

  // The network ------------------------------------------------------------------------------------------

  showNetwork(name) {
    this.network = this.data.networks[name];
    this.blocks = new Map(this.network.blocks.map((block) => [block.name, block]));
    const { title: called, about, parameters, flop, differences } = this.network;
    const total = `${(parameters / 1e6).toFixed(0)} million parameters, ${times((flop / 1e12).toFixed(2), "¹²")} operations.`;
    this.about.replaceChildren(element("p", {}, element("strong", {}, called), `, ${about}: ${total}`));
    if (differences.length) {
      const list = element("ul", {}, ...differences.map((text) => element("li", {}, text)));
      this.about.append(element("p", {}, "What differs from VideoCrafter2 is lit:"), list);
    }
    this.map.classList.toggle("compared", differences.length > 0);
    this.draw();
    this.choose(this.chosen);
  }

  // Encoder down on the left, decoder up on the right; `rows` is what the arrow keys walk on.
  draw() {
    const names = [...this.blocks.keys()];
    const depth = names.filter((name) => name.startsWith("encoder")).length;
    this.rows = [["embedding", "out"]];
    for (let i = 0; i < depth; i++) {
      const left = i === 0 && this.blocks.has("init_attention") ? ["encoder 0", "init_attention"] : [`encoder ${i}`];
      this.rows.push([...left, `decoder ${depth - 1 - i}`]);
    }
    this.rows.push(["middle"]);

    this.map.replaceChildren();
    this.buttons = new Map();
    const first = element("div", { class: "walk-row ends" });
    first.append(this.button("embedding"), element("span", { class: "walk-size" }, "c × h × w"), this.button("out"));
    this.map.append(first);
    let before = null;
    let level = -1;
    for (const row of this.rows.slice(1, -1)) {
      const made = this.blocks.get(row.at(-2)).output;
      const size = shape(made.slice(2));
      const width = made.at(-1);
      if (width !== before) level += 1;
      const line = element("div", { class: width === before ? "walk-row" : "walk-row level", style: `--level: ${level}` });
      line.dataset.row = row.at(-1);
      const left = element("span", { class: "walk-side" }, ...row.slice(0, -1).map((name) => this.button(name)));
      const link = element("span", { class: "walk-skip", "aria-hidden": "true" });
      // Channels grow after the first block of a level, which halves: the size stands where the level is left.
      const next = this.rows[this.rows.indexOf(row) + 1];
      const last = next.length < 2 || this.blocks.get(next.at(-2)).output.at(-1) !== width;
      if (last) link.append(element("span", { class: "walk-size" }, size));
      line.append(left, link, element("span", { class: "walk-side" }, this.button(row.at(-1))));
      this.map.append(line);
      before = width;
    }
    this.map.append(element("div", { class: "walk-row bottom" }, this.button("middle")));
  }

  button(name) {
    const block = this.blocks.get(name);
    const cells = block.layers.filter((layer) => layer.kind !== "time" && !layer.gone).map((layer) => {
      const after = block.layers[block.layers.indexOf(layer) + 1];
      return this.cell(layer, after?.kind === "time" && !after.gone);
    });
    const [, number] = name.split(" ");
    const label = element("span", { class: "walk-number", "aria-hidden": "true" }, number ?? "");
    const made = element("button", { type: "button", role: "radio", "aria-checked": "false", tabindex: "-1" });
    const words = block.layers.filter((layer) => !layer.gone).map((layer) => this.data.kinds[layer.kind].title.toLowerCase() + this.differs(layer));
    made.setAttribute("aria-label", `${title(name)}: ${words.join(", ")}`);
    made.dataset.name = name;
    made.classList.add(name.startsWith("decoder") || name === "out" ? "up" : "down");
    made.append(label, element("span", { class: "walk-cells", "aria-hidden": "true" }, ...cells));
    if (name === "middle" || name === "out") label.textContent = name;
    if (name === "embedding") label.textContent = "t, fps";
    if (block.layers.some((layer) => layer.gone)) made.classList.add("lost");
    this.buttons.set(name, made);
    return made;
  }

  // In words what is lit: nothing where all layers differ, as in the small network.
  differs(layer) {
    return this.network.partly && layer.lit ? " (differs)" : "";
  }

  cell(layer, withTime) {
    const made = element("i", { class: `walk-cell ${layer.kind}` }, this.data.kinds[layer.kind].letter);
    if (withTime) made.classList.add("time");
    if (layer.lit) made.classList.add("lit");
    return made;
  }

  // The block --------------------------------------------------------------------------------------------

  buildCard() {
    this.heading = element("h3");
    this.sentence = element("p", { "aria-live": "polite" });
    this.body = element("div");
    const steps = element("p", { class: "walk-steps" });
    for (const [way, text] of [[-1, "← one back"], [1, "one on →"]]) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        const names = [...this.blocks.keys()];
        this.visit(names[(names.indexOf(this.chosen) + way + names.length) % names.length]);
      });
      steps.append(button);
    }
    this.card.append(element("div", { class: "walk-head" }, this.heading, steps), this.sentence, this.body);
  }

  choose(name) {
    this.chosen = name;
    const block = this.blocks.get(name);
    for (const [other, button] of this.buttons) {
      button.setAttribute("aria-checked", String(other === name));
      button.tabIndex = other === name ? 0 : -1;
    }
    for (const line of this.map.querySelectorAll(".walk-row")) {
      line.classList.toggle("crossed", this.rows.some((row) => row.includes(name) && row.at(-1) === line.dataset.row));
    }
    this.heading.textContent = title(name);
    // The name first, for whoever hears the sentence alone.
    this.sentence.replaceChildren(element("span", { class: "visually-hidden" }, `${title(name)}. `), block.sentence);
    this.body.replaceChildren(...block.notes.map((note) => element("p", {}, note)), this.facts(block));
    this.layers.replaceChildren(...block.layers.map((layer) => this.layer(layer)));
  }

  facts(block) {
    const list = element("dl", { class: "walk-facts" });
    const add = (term, ...what) => list.append(element("div", {}, element("dt", {}, term), element("dd", {}, ...what)));
    const [axes, size] = block.input.length > 2 ? ["b f c h w", this.row(block)] : ["b f", ""];
    add("in", shape(block.input), element("small", {}, ` ${axes}`));
    add("out", shape(block.output), element("small", {}, size ? "" : " b f e"));
    const [text, href] = this.data.table;
    if (size) add("its row", size, " (", element("a", { href }, text), ")");
    add("parameters", `${inMillions(block.parameters)}, ${inPercent(block.parameters, this.network.parameters)} of all`, this.bars(block, "parameters"));
    add("operations", `${inBillions(block.flop)}, ${inPercent(block.flop, this.network.flop)} of all`, this.bars(block, "flop"));
    add("released name", element("code", {}, block.released));
    return list;
  }

  // As the dimension table has it: channels and size, before and after.
  row({ input: [, , c, ...before], skip, output: [, , made, ...after] }) {
    const size = shape(before) === shape(after) ? shape(before) : `${shape(before)} → ${shape(after)}`;
    return `${skip ? `${c - skip} + ${skip}` : c} → ${made}, ${size}`;
  }

  // A bar for every block in the order in which they run, the chosen one lit.
  bars(chosen, what) {
    const most = Math.max(...this.network.blocks.map((block) => block[what]));
    const bars = this.network.blocks.map((block) =>
      element("i", { class: block === chosen ? "lit" : "", style: `height: ${Math.max(4, (100 * block[what]) / most)}%` }));
    return element("span", { class: "walk-bars", "aria-hidden": "true" }, ...bars);
  }

  layer(layer) {
    const kind = this.data.kinds[layer.kind];
    const item = element("li", layer.gone ? { class: "gone" } : {});
    const cell = element("i", { class: `walk-cell ${layer.kind}`, "aria-hidden": "true" }, kind.letter);
    const name = element("strong", {}, kind.title + this.differs(layer));
    if (layer.gone) {
      item.append(cell, name, " Not in this network. In VideoCrafter2 it is ", element("code", {}, layer.name), ".");
      return item;
    }
    const links = [...layer.links, ...kind.links].flatMap(([text, href], i) => [i ? " · " : "", element("a", { href }, text)]);
    item.append(
      cell, name, ` ${layer.text} `,
      element("span", { class: "walk-small" }, `${inMillions(layer.parameters)} parameters, ${inBillions(layer.flop)} operations, `, element("code", {}, layer.name)),
      element("span", { class: "walk-small" }, ...links),
    );
    return item;
  }

  // Keys: on the picture, as one sees it ------------------------------------------------------------------

  onKey(event) {
    const row = this.rows.findIndex((names) => names.includes(this.chosen));
    const column = this.rows[row].indexOf(this.chosen);
    const onTheRight = column > 0 && column === this.rows[row].length - 1;
    const side = (names) => names[onTheRight ? names.length - 1 : 0];
    const target = {
      ArrowDown: () => this.rows[row + 1] && side(this.rows[row + 1]),
      ArrowUp: () => this.rows[row - 1] && side(this.rows[row - 1]),
      ArrowLeft: () => (this.chosen === "middle" ? this.rows[row - 1][0] : this.rows[row][column - 1]),
      ArrowRight: () => (this.chosen === "middle" ? this.rows[row - 1].at(-1) : this.rows[row][column + 1]),
      Home: () => this.rows[0][0],
      End: () => this.rows[0].at(-1),
    }[event.key];
    if (!target || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const name = target();
    if (!name) return;
    this.visit(name, true);
    this.buttons.get(name).focus();
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const root of document.querySelectorAll(".walk")) new Walk(root);
});
}

// Makes a page ready for paper: what waits for a click is opened, what slides becomes a strip of its states.
([site, address, scale]) => {
  const STATES = 4;
  document.documentElement.style.setProperty("--scale", scale);

  for (const image of document.images) image.loading = "eager";
  // Chromium prints no frame of a video.
  for (const video of document.querySelectorAll("article video")) {
    video.onloadeddata = () => {
      const still = document.createElement("canvas");
      still.width = video.videoWidth;
      still.height = video.videoHeight;
      still.getContext("2d").drawImage(video, 0, 0);
      video.replaceWith(still);
    };
    video.preload = "auto";
    video.load();
  }
  for (const box of document.querySelectorAll("article details:not(.above-input, .walk details)")) box.open = true;
  for (const box of document.querySelectorAll("article .toggle-hidden")) box.classList.remove("toggle-hidden");

  // Solutions stand at the end of the chapter, so that an exercise can be read without them.
  const solutions = document.querySelectorAll("article div.solution");
  if (solutions.length) {
    const heading = document.createElement("h2");
    heading.textContent = "Solutions";
    document.querySelector("article").append(heading, ...solutions);
  }

  // So does code that the page folds, in small type; the first cell, for Colab alone, is the same everywhere.
  const folded = [...document.querySelectorAll("article details.above-input")].slice(1);
  if (folded.length) {
    const heading = document.createElement("h2");
    heading.textContent = "Folded code";
    document.querySelector("article").append(heading);
  }
  for (const [i, box] of folded.entries()) {
    const mark = document.createElement("p");
    mark.className = "folded-mark";
    mark.textContent = `Folded code ${i + 1}, at the end of the chapter`;
    box.before(mark);
    const part = document.createElement("div");
    part.className = "folded";
    const number = document.createElement("p");
    number.textContent = i + 1;
    part.append(number, ...box.querySelectorAll("pre"));
    document.querySelector("article").append(part);
  }

  const state = document.querySelector("script[type='application/vnd.jupyter.widget-state+json']");
  const models = state ? JSON.parse(state.textContent).state : {};
  const model = (name) => models[name.replace("IPY_MODEL_", "")];
  const evenly = (count) => {
    const taken = Math.min(count, STATES);
    return Array.from({ length: taken }, (_, i) => (taken > 1 ? Math.round((i * (count - 1)) / (taken - 1)) : 0));
  };
  for (const view of document.querySelectorAll("article script[type='application/vnd.jupyter.widget-view+json']")) {
    const parts = (model(JSON.parse(view.textContent).model_id).state.children ?? []).map(model);
    const slider = parts.find((part) => part.model_name === "SelectionSliderModel");
    const stack = parts.find((part) => part.model_name === "StackModel");
    if (!slider || !stack) continue;
    const strip = document.createElement("div");
    strip.className = "strip";
    const pictures = stack.state.children.map(model);
    for (const i of evenly(pictures.length)) {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      const caption = document.createElement("figcaption");
      const data = pictures[i].buffers.find((buffer) => buffer.path[0] === "value").data;
      image.src = `data:image/png;base64,${data}`;
      image.onload = () => { if (image.naturalWidth > 1.8 * image.naturalHeight) strip.style.setProperty("--columns", 1); };
      caption.textContent = `${slider.state.description} ${slider.state._options_labels[i]}`;
      figure.append(image, caption);
      strip.append(figure);
    }
    view.parentElement.before(strip);
    view.parentElement.style.display = "none";
  }

  // Chromium keeps the places to which a page links itself: so it links to each, for the links of other pages.
  for (const place of document.querySelectorAll("article [id]")) {
    const link = document.createElement("a");
    link.href = `#${encodeURIComponent(place.id)}`;
    link.hidden = true;
    document.querySelector("article").append(link);
  }

  // A link to this machine leads nowhere for who reads the file.
  for (const link of document.querySelectorAll("a[href]")) {
    const here = location.href.split("#")[0];
    if (link.href.startsWith(site) && !link.href.startsWith(`${here}#`)) link.href = address + link.href.slice(site.length);
  }
}

// What the parts of a page that are built in the browser lack.
"use strict";

// The widgets' runtime speaks to MathJax 2 when it sets a label; the page has MathJax 3.
if (window.MathJax) {
  window.MathJax.Hub = {
    Queue: ([, , element]) => window.MathJax.startup?.promise.then(() => window.MathJax.typesetPromise([element])),
  };
}

// Names for widgets, which come without one.

const PLAY_BUTTONS = { "fa-play": "Play", "fa-pause": "Pause", "fa-stop": "Stop", "fa-retweet": "Repeat", "fa-repeat": "Repeat" };

function nameOf(control) {
  // A widget's description stands in a label beside it.
  const label = control.closest(".jupyter-widgets")?.querySelector(".widget-label");
  return label?.textContent.trim() || "value";
}

function nameWidgets(root) {
  for (const handle of root.querySelectorAll(".noUi-handle:not([aria-label])")) {
    handle.setAttribute("aria-label", nameOf(handle));
  }
  for (const readout of root.querySelectorAll(".widget-readout[contenteditable]:not([aria-label])")) {
    readout.setAttribute("role", "textbox");
    readout.setAttribute("aria-label", nameOf(readout));
  }
  for (const button of root.querySelectorAll(".jupyter-button:not([aria-label])")) {
    const icon = [...(button.querySelector("i")?.classList ?? [])].find((name) => name in PLAY_BUTTONS);
    if (icon && !button.textContent.trim()) button.setAttribute("aria-label", PLAY_BUTTONS[icon]);
  }
  for (const picture of root.querySelectorAll("img.widget-image:not([alt])")) {
    // The text alternative of the cell stands on the output that holds the widget.
    picture.alt = picture.closest("[data-alt]")?.dataset.alt ?? "";
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector("main");
  if (!article?.querySelector("script[type='application/vnd.jupyter.widget-view+json']")) return;
  nameWidgets(article);
  new MutationObserver(() => nameWidgets(article)).observe(article, { childList: true, subtree: true });
});

// Whoever is distracted by what moves can stop it; who has asked the system for less motion sees it stand still.
function addPause(image) {
  const still = document.createElement("canvas");
  const button = document.createElement("button");
  const frame = document.createElement("span");
  frame.className = "animation";
  button.type = "button";
  image.replaceWith(frame);
  frame.append(image, still, button);
  still.setAttribute("role", "img");
  still.setAttribute("aria-label", image.alt);

  function show(moving) {
    if (!moving) {
      still.width = image.naturalWidth;
      still.height = image.naturalHeight;
      still.style.width = `${image.clientWidth || image.naturalWidth}px`;
      still.getContext("2d").drawImage(image, 0, 0); // draws the first frame
    }
    image.hidden = !moving;
    still.hidden = moving;
    button.textContent = moving ? "Pause" : "Play";
  }
  button.addEventListener("click", () => show(image.hidden));
  show(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

window.addEventListener("load", () => {
  for (const image of document.querySelectorAll("article img[src$='.gif']")) {
    // A picture that is a link to itself would make the button a part of the link.
    const link = image.closest("a.image-reference");
    if (link?.href === image.src) link.replaceWith(image);
    image.decode().then(() => addPause(image));
  }
});

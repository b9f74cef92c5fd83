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

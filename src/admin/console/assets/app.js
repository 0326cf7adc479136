// Everything works without this file. With it: dialogs, copying, local times, a list that filters as you type.

import { startDialogs } from "./dialogs.js";
import { startFilter } from "./filter.js";
import { startHints } from "./hints.js";
import { forgetSecrets, startForgetting, startReveal } from "./reveal.js";
import { startTimes } from "./times.js";

document.documentElement.classList.add("scripted");

startTimes(document);
startDialogs();
startFilter();
startHints();
startReveal();
startForgetting();

// What a browser keeps of a page for its back button holds no key, and is not shown: it would be out of date.
addEventListener("pagehide", forgetSecrets);
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    forgetSecrets();
    location.reload();
  }
});

// A second press while the answer to the first is on its way does nothing.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.defaultPrevented || event.target.method !== "post" || !button) return;
  if (button.getAttribute("aria-busy") === "true") {
    event.preventDefault();
    return;
  }
  button.setAttribute("aria-busy", "true");
});

// Links to small forms open them in a dialog. It is the same page of the server's, of which only the sheet is shown.

import { startReveal } from "./reveal.js";
import { startTimes } from "./times.js";
import { answered, nobodyAnswered } from "./trouble.js";

export function startDialogs() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-sheet]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (link && plain) {
      event.preventDefault();
      open(link);
    }
  });
  // An answer that has to be read before anything else.
  const modal = document.querySelector(".sheet[data-modal]");
  if (modal) {
    lift(modal);
    // The page is the answer to a form: its address becomes one that can be loaded again without sending the form.
    if (modal.dataset.modal) history.replaceState(null, "", modal.dataset.modal);
  }
}

async function open(link) {
  if (link.getAttribute("aria-busy") === "true") return;
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const sheet = page.querySelector("main .sheet");
    // Anything else, a log-in for example, is for a page of its own.
    if (!answer.ok || !sheet) throw new Error(String(answer.status));
    answered(true);
    lift(document.adoptNode(sheet));
  } catch (error) {
    if (nobodyAnswered(error)) answered(false);
    else location.assign(link.href);
  } finally {
    link.removeAttribute("aria-busy");
  }
}

/** Shows a sheet as a modal dialog. When it is closed it is gone, with all that was in it. */
function lift(sheet) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", sheet.querySelector("h2").id);
  const description = sheet.querySelector("[data-description]");
  if (description) dialog.setAttribute("aria-describedby", description.id);
  dialog.append(sheet);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => {
    const cancel = event.target.closest("[data-close]");
    if (cancel) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  startTimes(dialog);
  startReveal(dialog);
  dialog.showModal();
}

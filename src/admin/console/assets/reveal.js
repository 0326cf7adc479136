// The new key, while it is on the screen.

/** Takes every full key out of the page. */
export function forgetSecrets() {
  for (const secret of document.querySelectorAll("[data-secret]")) secret.textContent = "";
  for (const input of document.querySelectorAll("input[data-forget]")) input.value = "";
}

/** A page that takes a full key may be the answer to one: to load it again must not send the key again. */
export function startForgetting() {
  if (document.querySelector("input[data-forget]")) history.replaceState(null, "", location.pathname);
}

export function startReveal(root = document) {
  const sheet = root.querySelector(".sheet:has([data-secret])");
  const dialog = sheet?.closest("dialog");
  if (!dialog || dialog.dataset.reveals) return;
  dialog.dataset.reveals = "true";

  const secret = sheet.querySelector("[data-secret]");
  // A link is given away with the address of the console.
  if ("path" in secret.dataset) secret.textContent = new URL(secret.textContent, location.origin).href;
  const name = secret.getAttribute("aria-label");
  const button = sheet.querySelector("[data-copy]");
  const said = sheet.querySelector("[role=status]");
  let stored = false;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(secret.textContent);
      stored = true;
      button.querySelector("span").textContent = "Copied";
      said.textContent = `${name} is in the clipboard.`;
    } catch {
      getSelection().selectAllChildren(secret);
      said.textContent = `This browser does not let a page copy. ${name} is selected: press Ctrl+C, or ⌘C.`;
    }
  });
  secret.addEventListener("copy", () => (stored = true));
  // Escape by habit should not cost the key: the first one asks.
  let asked = false;
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || stored || asked) return;
    event.preventDefault();
    asked = true;
    said.textContent = `${name} has not been copied. Press Escape again to close all the same.`;
  });
  dialog.addEventListener("close", forgetSecrets);
}

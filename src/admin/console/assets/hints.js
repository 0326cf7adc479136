// A label such as "Key 1" says little about where a key is used.

export function startHints() {
  document.addEventListener("input", (event) => {
    const input = event.target.closest("input[data-generic]");
    if (!input) return;
    const hint = document.getElementById(input.dataset.hint);
    hint.textContent = isGeneric(input.value, input.dataset.generic.split(" "))
      ? `“${input.value.trim()}” will be hard to tell from others. Name the place where the key is used.`
      : "";
  });
}

/** Whether nothing but general words and numbers stand in a label. The words come from the server. */
function isGeneric(label, general) {
  const words = label.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return words.length > 0 && words.every((word) => /^\p{N}+$/u.test(word) || general.includes(word.replace(/\d+$/, "")));
}

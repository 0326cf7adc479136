// The list follows its filters while one types, without a reload. The address always says what is shown. A whole key must
// never be in it: a search that the form does not allow is neither sent nor gone to, and the page says why.

import { startTimes } from "./times.js";
import { answered, nobodyAnswered } from "./trouble.js";

const PAUSE_MS = 180;

export function startFilter() {
  const form = document.querySelector("form[data-filter]");
  if (!form) return;
  const results = document.getElementById("results");
  const said = document.getElementById("results-said");
  let timer;
  let asking;

  const show = async (url, keep) => {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    results.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(url, { signal, cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("results");
      if (!answer.ok || !fresh) throw new Error(String(answer.status));
      results.replaceChildren(...fresh.childNodes);
      startTimes(results);
      history[keep ? "pushState" : "replaceState"](null, "", url);
      form.elements.sort.value = new URL(url).searchParams.get("sort") ?? "";
      said.textContent = results.querySelector("[data-summary]")?.textContent ?? "";
      answered(true);
      results.removeAttribute("aria-busy");
    } catch (error) {
      if (signal.aborted) return;
      if (!nobodyAnswered(error)) return location.assign(url);
      answered(false);
      results.removeAttribute("aria-busy");
    }
  };
  const submit = () => {
    clearTimeout(timer);
    if (!form.checkValidity()) return;
    const query = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...query]) if (value === "") query.delete(name, value);
    show(query.size ? `${form.action}?${query}` : form.action, false);
  };

  form.addEventListener("input", (event) => {
    if (event.target.type !== "search") return;
    clearTimeout(timer);
    timer = setTimeout(submit, PAUSE_MS);
  });
  form.addEventListener("change", submit);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  results.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-page]");
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    show(link.href, true).then(() => results.focus());
  });
  addEventListener("popstate", () => location.reload());
}

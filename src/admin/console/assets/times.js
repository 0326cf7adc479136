// Times in words, kept true while the page is open; the exact one, in the reader's time zone, on hover.

const UNITS = [
  ["year", 31_536_000_000],
  ["month", 2_592_000_000],
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];
const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const exact = new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "long" });

export function startTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) time.title = exact.format(new Date(time.dateTime));
  if (root === document) setInterval(refresh, 30_000);
}

function refresh() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const text = relative(new Date(time.dateTime) - Date.now());
    if (time.textContent !== text) time.textContent = text;
  }
}

/** `millis` from now, in the same words as the server's. */
function relative(millis) {
  const unit = UNITS.find(([, length]) => Math.abs(millis) >= length);
  if (!unit) return millis > 0 ? "in less than a minute" : "just now";
  return words.format(Math.trunc(millis / unit[1]), unit[0]);
}

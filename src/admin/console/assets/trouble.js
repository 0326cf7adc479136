// What a page says while the console behind it does not answer.

/** Whether the last thing that a script asked for was answered. */
export function answered(yes) {
  const note = document.getElementById("no-answer");
  if (note) note.hidden = yes;
}

/** Whether a call failed because nobody answered, and not by what was answered. */
export function nobodyAnswered(error) {
  return error instanceof TypeError;
}

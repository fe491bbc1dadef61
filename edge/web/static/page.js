"use strict";
// What every page does: a form is sent once, and a long one says that it works.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) { event.preventDefault(); return; }
  if (form.method !== "post") return;
  form.dataset.sent = "yes";
  const button = form.querySelector("button.primary, button.danger, button:not([type=button])");
  if (button && form.dataset.busy) button.textContent = form.dataset.busy;
  // Disabled after the form is on its way, or it would not be sent.
  setTimeout(() => { for (const each of form.querySelectorAll("button")) each.disabled = true; });
});
// A page that comes back from the browser's memory may be sent again.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const leuko = {
  csrf: document.querySelector("meta[name=csrf]").content,
  read: (id) => JSON.parse(document.getElementById(id).textContent),
  fill: (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all)),
  async post(path, body) {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf": leuko.csrf, accept: "application/json" },
      body: JSON.stringify(body === undefined ? {} : body),
    });
    const text = await answer.text();
    let found = null;
    try { found = JSON.parse(text); } catch { /* a refusal is plain text */ }
    if (!answer.ok) {
      const told = found && found.error ? `${found.error.message} ${found.error.cure || ""}` : text;
      throw new Error(told || answer.statusText);
    }
    return found;
  },
};

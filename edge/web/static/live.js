"use strict";
// Follows the session: numbers by server-sent events, the picture when there is a new one and the last has arrived.
(() => {
  const words = leuko.read("words");
  const at = (id) => document.getElementById(id);
  let state = leuko.read("data"), asked = -1, loading = false, shown = -1;

  // The next picture takes the place of the last one only when it has arrived: a lost one is never seen broken.
  const picture = () => {
    if (!state.last || loading || state.last.number === shown) return;
    loading = true;
    asked = state.last.number;
    const next = new Image();
    next.id = "frame";
    next.alt = at("frame").alt;
    next.addEventListener("load", () => {
      at("frame").replaceWith(next);
      shown = asked;
      loading = false;
      document.documentElement.dataset.frame = shown;
      picture();
    });
    next.addEventListener("error", () => { loading = false; setTimeout(picture, 500); });
    next.src = `/live/frame.jpg?n=${asked}`;
  };

  const number = (value) => (value === null ? "–" : value.toFixed(1));
  const show = () => {
    at("phase").textContent = words[state.phase];
    at("counted").textContent = state.counted;
    at("target").textContent = state.target;
    at("progress").setAttribute("width", Math.min(100, (100 * state.counted) / state.target));
    for (const share of state.classes) {
      const row = document.querySelector(`tr[data-label=${share.label}]`);
      row.querySelector("[data-count]").textContent = share.count;
      row.querySelector("[data-share]").textContent =
        share.percent === null ? "–" : `${number(share.percent)} %`;
      row.querySelector("[data-limits]").textContent =
        share.percent === null ? "" : `(${number(share.low)}–${number(share.high)})`;
    }
    document.querySelector("tr[data-label=other] [data-count]").textContent = state.other;
    at("f-accepted").textContent = state.fields.accepted;
    at("f-refused").textContent = state.fields.refused + state.fields.unreadable;
    at("f-dropped").textContent = state.fields.dropped;
    at("rate").textContent = leuko.fill(words.rate, { n: state.rate });
    const focus = state.focus;
    at("focus-bar").setAttribute("width", focus === null ? 0 : 100 * Math.min(1, focus));
    const meter = at("focus-meter");
    if (focus === null) meter.removeAttribute("aria-valuenow"); else meter.setAttribute("aria-valuenow", Math.round(100 * focus));
    at("focus-word").textContent = focus === null ? words.no_focus : state.focusTrend > 0 ? words.sharper : state.focusTrend < 0 ? words.softer : words.focus;
    at("light").textContent = words[state.exposure];
    const verdict = at("verdict");
    verdict.hidden = !state.last || state.last.accepted;
    if (!verdict.hidden) verdict.textContent = `${words.refused}: ${state.last.reasons.map((r) => words.reasons[r] || r).join(", ")}`;
    const first = state.advice.find((each) => each.severe) || state.advice[0];
    at("advice").textContent = first ? words.codes[first.code] || first.message : "";
    at("advice").classList.toggle("severe", Boolean(first && first.severe));
    at("unsigned").hidden = !state.flags.includes("unsigned-bundle");
    const trouble = at("trouble");
    trouble.hidden = !state.trouble;
    if (state.trouble) trouble.textContent = `${state.trouble.message} ${state.trouble.cure}`;
    at("pause").textContent = state.phase === "paused" ? words.resume : words.pause;
    for (const id of ["pause", "finish", "abort"]) at(id).hidden = state.ended;
    at("done").hidden = !state.result;
    if (state.result) at("done").href = `/results/${state.result}`;
    at("again").hidden = !state.ended;
    document.documentElement.dataset.phase = state.phase;
    picture();
  };

  const step = (name) => async () => {
    try { state = await leuko.post(`/live/${name}`); show(); } catch (error) {
      at("trouble").textContent = error.message;
      at("trouble").hidden = false;
    }
  };
  at("pause").addEventListener("click", () => step(state.phase === "paused" ? "resume" : "pause")());
  at("finish").addEventListener("click", step("finish"));
  at("abort").addEventListener("click", () => { if (confirm(words.sure)) step("abort")(); });
  const events = new EventSource("/live/events");
  events.onmessage = (event) => {
    const found = JSON.parse(event.data);
    if (!found || found.session !== state.session) { location.reload(); return; }
    state = found;
    show();
    if (state.ended) events.close();
  };
  events.onerror = () => { at("phase").textContent = words.lost; };
  show();
})();

"use strict";
// The pages work without this; it puts field and cell side by side, and calls cells by keys.
document.addEventListener("click", (event) => {
  const asked = event.target.closest("[data-ask]");
  if (asked && !window.confirm(asked.dataset.ask)) event.preventDefault();
});
const review = document.getElementById("review");
if (review) {
  document.documentElement.classList.add("scripted");
  const keys = { n: "neutrophil", l: "lymphocyte", m: "monocyte", e: "eosinophil", b: "basophil", o: "other" };
  const cards = [...review.querySelectorAll(".card")];
  const choose = (card) => {
    for (const old of review.querySelectorAll(".chosen")) old.classList.remove("chosen");
    for (const field of review.querySelectorAll(".field")) {
      field.classList.toggle("open", field.id === "field-" + card.dataset.field);
    }
    card.classList.add("chosen");
    const box = review.querySelector('.box[data-place="' + card.dataset.place + '"]');
    if (box) box.classList.add("chosen");
    const field = document.getElementById("field-" + card.dataset.field);
    const stage = review.querySelector(".stage");
    if (field && stage.scrollHeight > stage.clientHeight) stage.scrollTop = field.offsetTop - stage.offsetTop;
  };
  review.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) choose(card);
  });
  review.addEventListener("click", (event) => {
    const box = event.target.closest(".box");
    const card = box && review.querySelector('.card[data-place="' + box.dataset.place + '"]');
    if (card) card.focus();
    const field = event.target.closest(".field");
    if (field) field.classList.add("open");
  });
  review.addEventListener("keydown", (event) => {
    const card = event.target.closest(".card");
    if (!card || event.target !== card || event.ctrlKey || event.altKey || event.metaKey) return;
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const select = card.querySelector("select");
    if (step) {
      const next = cards[cards.indexOf(card) + step];
      if (next) next.focus();
      event.preventDefault();
    } else if (select && keys[event.key.toLowerCase()]) {
      select.value = keys[event.key.toLowerCase()];
      event.preventDefault();
    }
  });
  if (cards.length) choose(cards[0]);
  else for (const field of review.querySelectorAll(".field")) field.classList.add("open");
}

// Tables sort by a click on a column's name; points of curves tell their values.
"use strict";

// The number that a cell begins with; null where it has none.
function numberOf(text) {
  const found = text.replace(/−/g, "-").match(/^\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
  return found ? Number(found[1]) : null;
}

function sort(table, column, ascending) {
  const body = table.tBodies[0];
  const keyed = Array.from(body.rows, (row) => ({ row, text: row.cells[column].textContent.trim() }));
  const filled = keyed.filter(({ text }) => text !== "–" && text !== "");
  const numeric = filled.every(({ text }) => numberOf(text) !== null);
  keyed.sort((a, b) => {
    const [emptyA, emptyB] = [!filled.includes(a), !filled.includes(b)];
    if (emptyA || emptyB) return emptyA - emptyB; // what is missing stays last
    const order = numeric
      ? numberOf(a.text) - numberOf(b.text)
      : a.text.localeCompare(b.text, "en", { numeric: true });
    return ascending ? order : -order;
  });
  keyed.forEach(({ row }) => body.append(row));
}

for (const table of document.querySelectorAll("table")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending);
    });
  });
}

const tip = document.getElementById("tip");

function show(hit) {
  tip.textContent = hit.dataset.values;
  tip.hidden = false;
  const [at, size] = [hit.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.min(Math.max(4, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 4);
  const above = at.top - size.height - 4;
  tip.style.left = left + "px";
  tip.style.top = (above > 4 ? above : at.bottom + 4) + "px";
}

for (const hit of document.querySelectorAll(".hit")) {
  const title = hit.querySelector("title");
  hit.dataset.values = title.textContent;
  hit.setAttribute("aria-label", title.textContent);
  title.remove(); // or the browser would show it too
  for (const event of ["pointerenter", "focus", "click"]) hit.addEventListener(event, () => show(hit));
  for (const event of ["pointerleave", "blur"]) hit.addEventListener(event, () => { tip.hidden = true; });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

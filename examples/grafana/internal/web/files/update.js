// Keeps a page up to date: asks for it again and shows what has changed. Whoever opens
// or closes something is reading, so that ends the updates until they are wanted again.
"use strict";

const every = 2000; // milliseconds
const main = document.getElementById("main");
const box = document.getElementById("updates");
const news = document.getElementById("news");

// fill puts the address of this server where a page names it.
function fill(document) {
  for (const place of document.querySelectorAll("[data-origin]")) place.textContent = new URL("./", location).href;
}

function selecting() {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed;
}

// where says where the focus is, in a way that finds it again.
function where(element) {
  if (!element || element === main || !main.contains(element)) return "";
  if (element.tagName === "SUMMARY") return `#${CSS.escape(element.parentElement.id)} > summary`;
  if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
  return "";
}

async function update() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!box.checked || selecting()) return;
  fill(next);
  const incoming = next.getElementById("main");
  if (incoming.innerHTML === main.innerHTML) return;
  const focused = where(document.activeElement);
  main.replaceChildren(...incoming.childNodes);
  if (focused) main.querySelector(focused)?.focus({ preventScroll: true });
}

async function loop() {
  if (box.checked && !document.hidden) {
    try {
      await update();
      news.textContent = "";
    } catch {
      news.textContent = "no answer";
    }
  }
  setTimeout(loop, every);
}

fill(document);
if (main.hasAttribute("data-live")) {
  box.parentElement.hidden = false;
  main.addEventListener("click", (event) => {
    if (event.target.closest("summary")) box.checked = false;
  });
  setTimeout(loop, every);
}

// Keeps the overview up to date by server-sent events, while the page is looked at. Without it, or where
// it fails, the page is one of its moment, and has a link to load it anew.
//
// What comes is a part of a page that the server made, with everything in it escaped: first all of it, then its
// cells that changed, each by its place. It is parsed in a document of its own, where nothing runs, and only what
// differs is put in place of what was there.

const region = document.querySelector("[data-live]");
const state = document.querySelector("[data-live-state]");
let source = null;

function say(what) {
  const text = state.dataset[what] ?? "";
  if (state.textContent !== text) state.textContent = text;
}

function show(html) {
  const made = new DOMParser().parseFromString(html, "text/html");
  for (const part of made.querySelectorAll("[data-part]")) {
    const before = region.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!before || before.outerHTML === part.outerHTML) continue;
    const focus = before.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const scrolled = before.querySelector(".table")?.scrollLeft ?? 0;
    before.replaceWith(document.importNode(part, true));
    const now = region.querySelector(`[data-part="${part.dataset.part}"]`);
    const table = now.querySelector(".table");
    if (table) table.scrollLeft = scrolled;
    if (focus) [...now.querySelectorAll("a")].find((link) => link.getAttribute("href") === focus)?.focus();
  }
}

function showCells(changed) {
  const cells = region.querySelectorAll("p, th, td");
  for (const [place, html] of changed) {
    const made = new DOMParser().parseFromString(`<table><tbody><tr>${html}`, "text/html").querySelector("p, th, td");
    const before = cells[place];
    if (!before || before.localName !== made?.localName) continue;
    const focus = before.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const now = document.importNode(made, true);
    before.replaceWith(now);
    if (focus) [...now.querySelectorAll("a")].find((link) => link.getAttribute("href") === focus)?.focus();
  }
}

function close() {
  source?.close();
  source = null;
}

function open() {
  if (source || document.hidden) return;
  source = new EventSource(region.dataset.live);
  source.addEventListener("rows", (event) => {
    show(event.data);
    say("on");
  });
  source.addEventListener("cells", (event) => {
    showCells(JSON.parse(event.data));
    say("on");
  });
  source.addEventListener("unavailable", () => say("off"));
  source.addEventListener("end", () => {
    close();
    say("ended");
  });
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) {
      close();
      say("ended");
    } else say("off");
  });
}

if (region && state) {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

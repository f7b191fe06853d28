// Keyboard: `/` to the search, `?` for help, `g` and a letter to go to a page. Not while somebody types, and not
// where it was switched off (WCAG 2.1.4).

const KEPT = "rowrelay-keys";
const WAIT_MS = 1500;

let goingSince = -Infinity;

function typing(element) {
  return element.closest("input, textarea, select, [contenteditable]") !== null;
}

function switchedOff() {
  return localStorage.getItem(KEPT) === "off";
}

function went(letter) {
  const link = document.querySelector(`[data-go="${CSS.escape(letter)}"]`);
  link?.click();
  return Boolean(link);
}

function act(key, now) {
  if (now - goingSince < WAIT_MS) {
    goingSince = -Infinity;
    return went(key);
  }
  if (key === "g") {
    goingSince = now;
    return true;
  }
  if (key === "/") {
    const search = document.getElementById("search");
    search?.focus();
    search?.select();
    return Boolean(search);
  }
  if (key === "?") {
    document.getElementById("help")?.showModal();
    return true;
  }
  return false;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (switchedOff() || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (act(event.key, event.timeStamp)) event.preventDefault();
});

const help = document.getElementById("help");
const button = document.getElementById("help-button");
const choice = document.getElementById("keys-on");
if (help && button && choice) {
  button.hidden = false;
  button.addEventListener("click", () => help.showModal());
  choice.checked = !switchedOff();
  choice.addEventListener("change", () => localStorage.setItem(KEPT, choice.checked ? "on" : "off"));
}

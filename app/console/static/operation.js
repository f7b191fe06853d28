// An operation that moves: its numbers are read anew every other second while somebody looks.
const EVERY_MS = 2000;

async function refresh() {
  const live = document.getElementById("live");
  if (live.dataset.moves !== "yes") return;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (answer.ok && fresh) {
        if (fresh.dataset.moves !== "yes") {
          location.reload(); // other buttons are offered then
          return;
        }
        live.replaceWith(fresh);
      }
    } catch {
      // The console is away for a moment: the next time.
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);

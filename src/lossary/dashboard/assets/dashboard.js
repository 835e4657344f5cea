// What the dashboard does beyond the report's page: forms that answer at once, and pages that fill in while a run goes on.
(() => {
  "use strict";
  const script = document.currentScript;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // --- a choice is an address: it can be kept, sent, and gone back from
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form) form.requestSubmit();
  });

  // --- the baseline: the server pairs by example, so that every difference has its test
  function rebase(select) {
    const address = new URL(location.href);
    address.searchParams.set("base", select.selectedOptions[0].textContent);
    location.assign(address);
  }
  const bases = () => one("body:has(#verdict) #base");
  document.addEventListener("change", (event) => {
    if (event.target !== bases()) return;
    event.stopImmediatePropagation();
    rebase(event.target);
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const select = bases();
    const turned = { n: 'a[rel="next"]', p: 'a[rel="prev"]' }[event.key];
    if (event.key === "b" && select) {
      event.stopImmediatePropagation();
      select.selectedIndex = (select.selectedIndex + 1) % select.length;
      rebase(select);
    } else if (turned) {
      one(turned)?.click();
    }
  }, true);

  // --- what a reader has set up on the page, to be found again in a newer one
  const path = (element) => {
    const parts = [];
    for (let at = element; at && at.tagName !== "MAIN"; at = at.parentElement) {
      if (at.id) { parts.unshift(`#${at.id}`); break; }
      parts.unshift(`${at.tagName}:${[...at.parentElement.children].indexOf(at)}`);
    }
    return parts.join(">");
  };
  function remember(main) {
    return {
      filter: one("#filter", main),
      open: new Map(all("details", main).map((part) => [path(part), part.open])),
      sorted: all('th[aria-sort="ascending"], th[aria-sort="descending"]', main)
        .map((head) => [path(head), head.getAttribute("aria-sort")]),
    };
  }
  function restore(main, kept) {
    all("details", main).forEach((part) => { part.open = kept.open.get(path(part)) ?? part.open; });
    const heads = new Map(all("th[aria-sort]", main).map((head) => [path(head), head]));
    kept.sorted.forEach(([where, how]) => {
      const button = one(".sort", heads.get(where) ?? document.createElement("th"));
      button?.click();
      if (how === "descending") button?.click();
    });
    const field = one("#filter", main);
    if (field && kept.filter) {
      // The old field goes on: it has its listeners, its words and maybe the cursor.
      field.replaceWith(kept.filter);
      kept.filter.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  // --- a study that is written to: ask, and take over what is new
  const state = script.dataset.state;
  let version = script.dataset.version;
  const note = one("#note");
  function tell(text) {
    note.hidden = !text;
    one("bdi", note).textContent = text ?? "";
  }
  async function renew() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = one("script[data-version]", page);
    const main = one("#main");
    const focused = document.activeElement?.closest("#main") ? path(document.activeElement) : null;
    const kept = remember(main);
    main.replaceChildren(...one("#main", page).childNodes);
    restore(main, kept);
    if (kept.filter && focused === "#filter") kept.filter.focus({ preventScroll: true });
    version = fresh.dataset.version;
    document.title = page.title;
    document.documentElement.dataset.version = version;
    document.dispatchEvent(new CustomEvent("lossary:renewed"));
  }
  async function look() {
    try {
      if (document.visibilityState === "visible" && !one("dialog[open]")) {
        const answer = await fetch(state, { cache: "no-store" });
        if (answer.ok) {
          const found = await answer.json();
          tell(found.note);
          if (found.version !== version) await renew();
        }
      }
    } catch {
      tell("the dashboard does not answer; the page is as it was");
    }
    setTimeout(look, 2000);
  }
  if (state) setTimeout(look, 2000);
})();

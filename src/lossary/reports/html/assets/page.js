// What a page does beyond showing: sort, filter, copy, baseline, keys. Without it every table and picture is there already.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector, from = document) => from.querySelector(selector);

  // --- what is said to everybody, screen readers too
  const said = one("#said");
  let quiet;
  function say(text) {
    said.textContent = text;
    said.classList.add("shown");
    clearTimeout(quiet);
    quiet = setTimeout(() => said.classList.remove("shown"), 1600);
  }

  // --- light and dark; a page from disk may have no storage
  const stored = {
    get: () => { try { return localStorage.getItem("lossary-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("lossary-theme", value); } catch { /* not kept, then */ } },
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();
  function turn() {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored.set(root.dataset.theme);
    say(root.dataset.theme);
  }

  // --- tables: sorted by a column; what has no number stands last either way
  const key = (row, index) => {
    const cell = row.children[index];
    if (cell.tagName === "TH") return cell.innerText.trim().toLowerCase();
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };
  function sort(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const index = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, index), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "string" ? a.localeCompare(b) : a - b;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  // --- filter: words that a dataset's name holds keep rows, words that a run's name holds keep columns
  function filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (name, list) => list.some((word) => name.toLowerCase().includes(word));
    let rows = 0;
    let shown = 0;
    all("table[data-table]").forEach((table) => {
      const heads = all("th[data-run]", table);
      const names = all("tbody tr", table).map((row) => row.dataset.name);
      const ofRuns = words.filter((word) => heads.some((head) => has(head.dataset.run, [word])));
      const ofRows = words.filter((word) => names.some((name) => has(name, [word])));
      const none = words.filter((word) => !ofRuns.includes(word) && !ofRows.includes(word));
      all("tbody tr", table).forEach((row) => {
        row.hidden = none.length > 0 || (ofRows.length > 0 && !has(row.dataset.name, ofRows));
        rows += 1;
        shown += !row.hidden;
      });
      const keep = new Set(heads.filter((head) => !ofRuns.length || has(head.dataset.run, ofRuns)));
      heads.forEach((head) => {
        const index = [...head.parentElement.children].indexOf(head);
        head.hidden = !keep.has(head);
        all("tbody tr, tfoot tr", table).forEach((row) => { row.children[index].hidden = head.hidden; });
      });
    });
    one("#filtered").textContent = words.length ? `${shown} of ${rows} rows` : "";
  }

  // --- search in a list: rows that hold every word
  function search(field) {
    const part = field.closest("[data-searched]");
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let count = 0;
    all("tbody", part).forEach((body) => {
      const [head, ...rows] = body.rows;
      const of = head.textContent.toLowerCase();
      let kept = 0;
      rows.forEach((row) => {
        const text = `${of} ${row.textContent.toLowerCase()}`;
        row.hidden = !words.every((word) => text.includes(word));
        kept += !row.hidden;
      });
      head.hidden = kept === 0;
      shown += kept;
      count += rows.length;
    });
    one("output", part).textContent = words.length ? `${shown} of ${count} rows` : "";
  }

  // --- copy what is seen
  const flat = (text) => text.replace(/\s+/g, " ").trim();
  function cellText(cell) {
    const number = one(".n", cell);
    if (!number) return one(".missing", cell) ? "—" : flat(cell.dataset.run ?? cell.innerText.replace("↗", ""));
    const parts = [number.innerText, one("i", cell)?.innerText, one(".mark", cell)?.innerText, one(".delta", cell)?.innerText];
    return flat(parts.filter(Boolean).join(" "));
  }
  function matrix(table) {
    const rows = [one("thead tr:last-child", table), ...all("tbody tr, tfoot tr", table)].filter((row) => !row.hidden);
    return rows.map((row) => [...row.children].filter((cell) => !cell.hidden).map(cellText));
  }
  const escaped = (text) => text.replace(/[\\|`*[\]<>~$]/g, "\\$&");
  const formula = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const forms = {
    markdown: ([head, ...rows]) => [head, head.map((_, i) => (i ? "---:" : "---")), ...rows]
      .map((row, i) => `| ${row.map(i === 1 ? (cell) => cell : escaped).join(" | ")} |`).join("\n") + "\n",
    csv: (rows) => rows.map((row) => row.map((cell) => quoted(formula(cell))).join(",")).join("\n") + "\n",
  };
  async function copy(button) {
    const table = one("table", button.closest("details, figure, .block"));
    const text = forms[button.dataset.copy](matrix(table));
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // A page from disk may not reach the clipboard that way.
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    root.dataset.copied = text;
    say(`copied as ${button.innerText}`);
  }

  // --- baseline: another one than the paired one shows plain differences, without a test, and says so
  const select = one("#base");
  const paired = select?.value;
  function rebase() {
    const name = select.selectedOptions[0].textContent;
    all("table[data-table]").forEach((table) => {
      const heads = all("th[data-run]", table);
      const base = heads.find((head) => head.dataset.run === name);
      heads.forEach((head) => {
        head.classList.toggle("isbase", head === base);
        one(".sort", head).textContent = head === base ? "base" : "";
      });
      const at = base && [...base.parentElement.children].indexOf(base);
      // Nats of different vocabularies have no difference.
      const apart = (head) => base && "within" in table.dataset && head.dataset.vocabulary !== base.dataset.vocabulary;
      all("tbody tr, tfoot tr", table).forEach((row) => {
        heads.forEach((head) => delta(row, [...head.parentElement.children].indexOf(head), apart(head) ? undefined : at));
      });
    });
    say(`Δ to ${name}`);
  }
  function delta(row, index, at) {
    const cell = row.children[index];
    let shown = one(".delta", cell);
    if (!shown) {
      shown = Object.assign(document.createElement("small"), { className: "delta" });
      cell.append(shown);
    }
    shown.dataset.first ??= JSON.stringify([shown.textContent, shown.title]);
    if (select.value === paired && shown.dataset.d !== undefined) {
      [shown.textContent, shown.title] = JSON.parse(shown.dataset.first);
      return;
    }
    const base = at === undefined ? undefined : row.children[at].dataset.v;
    const value = cell.dataset.v;
    if (base === undefined || value === undefined || index === at) {
      [shown.textContent, shown.title] = ["", ""];
      return;
    }
    const difference = (value - base).toFixed(3).replace(/^(-?)0\./, "$1.");
    shown.textContent = difference.startsWith("-") ? difference : `+${difference}`;
    shown.title = "difference of the numbers shown; not paired, not tested";
  }

  // --- charts: drawn when they come into view; until then, and without the engine, the static picture stands
  let data;
  let engine;
  async function load() {
    if (window.vegaEmbed) return window.vegaEmbed;
    const packed = Uint8Array.from(atob(one("#engine").textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.vegaEmbed;
  }
  const hiddenRuns = new Set();
  // Without inline styles and `eval`, which the page's policy forbids; of the log only errors (1).
  const options = { ast: true, renderer: "svg", actions: false, defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };

  function unpack(text) {
    const bytes = atob(text);
    const numbers = [];
    let value = 0;
    let scale = 1;
    for (let i = 0; i < bytes.length; i += 1) {
      const byte = bytes.charCodeAt(i);
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte < 128) {
        numbers.push(value % 2 ? -(value + 1) / 2 : value / 2);
        value = 0;
        scale = 1;
      }
    }
    const points = [];
    let step = 0;
    let loss = 0;
    for (let i = 0; i < numbers.length; i += 2) {
      step += numbers[i];
      loss += numbers[i + 1];
      points.push([step, loss / 10000]);
    }
    return points;
  }

  const axis = { unit: () => one("#axis-unit")?.value ?? data.curves.units[0], log: (name) => one(`#axis-${name}-log`).checked };
  // What a step of a run stands for: known at some steps, even in between.
  function place(run, step, unit) {
    const known = data.curves.axes[run];
    if (unit === "steps" || !known) return step;
    const [steps, tokens, examples] = known;
    const values = unit === "tokens" ? tokens : examples;
    let low = 0;
    let high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle; else high = middle;
    }
    if (steps[high] === steps[low]) return values[low];
    return values[low] + ((values[high] - values[low]) * (step - steps[low])) / (steps[high] - steps[low]);
  }

  function curve(id) {
    const { template, runs } = data.curves;
    const chart = data.curves.charts[id];
    const unit = axis.unit();
    const logX = axis.log("x");
    const logY = axis.log("y");
    const fits = (point) => (!logX || point.x > 0) && (!logY || (point.y > 0 && (point.low ?? 1) > 0));
    const seen = (run) => !hiddenRuns.has(runs[run]);
    // Runs that coincide have one mark: that of the first that is shown.
    const shown = (group) => ({ run: runs[group.find(seen)], runs: group.filter(seen).map((run) => runs[run]).join(", ") });
    const along = (packed, group) => unpack(packed)
      .map(([step, y]) => ({ ...shown(group), x: place(group[0], step, unit), y })).filter(fits);
    const lines = chart.lines.filter(([group]) => group.some(seen));
    const spec = structuredClone(template);
    spec.datasets = {
      raw: one("#axis-raw").checked ? lines.flatMap(([group, raw]) => along(raw, group)) : [],
      mean: lines.flatMap(([group, , mean]) => along(mean, group)),
      points: chart.points.filter(([group]) => group.some(seen))
        .map(([group, step, y, low, high]) => ({ ...shown(group), x: place(group[0], step, unit), y, low: low ?? y, high: high ?? y }))
        .filter(fits),
      floor: chart.floor === null || (logY && chart.floor <= 0) ? [] : [{ y: chart.floor }],
    };
    spec.layer.forEach(({ encoding }) => {
      if (encoding.x) Object.assign(encoding.x, { title: unit, scale: { ...encoding.x.scale, type: logX ? "log" : "linear" } });
      if (encoding.y) encoding.y.scale = logY ? { type: "log" } : { type: "linear", zero: false };
    });
    return spec;
  }

  const without = (value) => {
    if (Array.isArray(value)) return value.filter((item) => !(item && hiddenRuns.has(item.run))).map(without);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, without(item)]));
    return value;
  };

  async function draw(figure) {
    const id = figure.dataset.chart;
    const spec = { ...(data.curves.charts?.[id] ? curve(id) : without(data.charts[id])), config: data.config };
    engine ??= load();
    const embed = await engine;
    const place = document.createElement("div");
    const { view } = await embed(place, spec, options);
    // A picture that is wider than its place would be made smaller, and its letters with it.
    const over = one("svg", place).viewBox.baseVal.width - figure.parentElement.clientWidth;
    if (over > 0) await view.width(Math.max(view.width() - over, 120)).runAsync();
    figure.lossary?.finalize();
    figure.lossary = view;
    // The plot has a name of its own; the marks' would be a flood.
    one("svg", place).setAttribute("aria-hidden", "true");
    one(".plot", figure).replaceChildren(place);
    figure.dataset.drawn = "true";
  }
  const kept = (figure) => draw(figure).catch(() => { /* the static picture stays */ });
  const near = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    target.dataset.near = isIntersecting;
    if (isIntersecting && target.dataset.drawn !== "true") kept(target);
  }), { rootMargin: "300px" });
  let figures = [];
  // A dashboard puts newer content into the page: its charts begin anew.
  function begin() {
    data = one("#data") ? JSON.parse(one("#data").textContent) : { charts: {}, runs: [], curves: {} };
    near.disconnect();
    figures.forEach((figure) => figure.lossary?.finalize());
    figures = all("figure[data-chart]").filter(({ dataset }) => data.charts[dataset.chart] || data.curves.charts?.[dataset.chart]);
    figures.forEach((figure) => near.observe(figure));
  }
  document.addEventListener("lossary:renewed", begin);

  /* Tables that hold more columns than are seen say so, and so does the bar. */
  function tell(part) {
    part.classList.toggle("cut", part.scrollWidth - part.clientWidth - Math.abs(part.scrollLeft) > 4);
    const note = part.parentElement.querySelector(":scope > .more-columns");
    if (note) note.hidden = part.scrollWidth - part.clientWidth <= 4;
  }
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => tell(target)));
  function measure() {
    sizes.disconnect();
    all(".scroll, .top nav").forEach((part) => { sizes.observe(part); part.addEventListener("scroll", () => tell(part), { passive: true }); });
  }
  document.addEventListener("lossary:renewed", measure);
  measure();
  begin();
  function redraw(which = () => true) {
    figures.filter(which).forEach((figure) => {
      figure.dataset.drawn = "false";
      if (figure.dataset.near === "true") kept(figure);
    });
  }
  document.addEventListener("change", ({ target }) => {
    if (target.id.startsWith("axis-")) redraw((figure) => data.curves.charts?.[figure.dataset.chart]);
    if (target.dataset.show !== undefined) {
      const name = data.runs[Number(target.dataset.show)];
      if (target.checked) hiddenRuns.delete(name); else hiddenRuns.add(name);
      all(`input[data-show="${target.dataset.show}"]`).forEach((other) => { other.checked = target.checked; });
      redraw();
    }
  });

  // --- keys
  const sections = () => all("main > section[id]");
  function step(by) {
    const list = sections();
    const here = Math.max(0, list.findLastIndex((section) => section.getBoundingClientRect().top < 60));
    const next = list[Math.min(list.length - 1, Math.max(0, here + by))];
    next.scrollIntoView({ behavior: "instant" });
    history.replaceState(null, "", `#${next.id}`);
    const title = one("h1, h2", next);
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
  }
  const help = one("#help");
  const keys = {
    "/": () => { const field = one("#filter"); if (field) { field.scrollIntoView({ block: "center" }); field.focus(); field.select(); } },
    j: () => step(1),
    k: () => step(-1),
    b: () => { if (select) { select.selectedIndex = (select.selectedIndex + 1) % select.length; rebase(); } },
    d: turn,
    "?": () => (help.open ? help.close() : help.showModal()),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") { event.target.blur(); }
      return;
    }
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.matches(".sort")) sort(button);
    else if (button.dataset.copy) copy(button);
    else if (button.matches("[data-help]")) keys["?"]();
    else if (button.matches("[data-turn]")) turn();
  });
  ["input", "search"].forEach((name) => document.addEventListener(name, ({ target }) => { if (target.matches?.("[data-search]")) search(target); }));
  // Some browsers tell of a field that Escape empties by `search` only.
  ["input", "search"].forEach((name) => one("#filter")?.addEventListener(name, (event) => filter(event.target.value)));
  select?.addEventListener("change", rebase);

  // --- a link into a folded part opens it
  function unfold() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);
  unfold();
  // Print opens everything, and closes again what was closed.
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach((part) => { part.open = true; }); });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));

  // --- the section that is read now, and the page that is open: seen in a bar that is wider than its place
  function bring(link) {
    const bar = link.parentElement.getBoundingClientRect();
    const here = link.getBoundingClientRect();
    link.parentElement.scrollLeft += here.left - bar.left - (bar.width - here.width) / 2;
  }
  all(".top nav [aria-current]").forEach(bring);
  const links = new Map(all(".top nav a[href^='#']").map((link) => [link.hash.slice(1), link]));
  if (links.size) {
    const watch = new IntersectionObserver(() => {
      const list = sections().filter((section) => links.has(section.id));
      const here = list.findLast((section) => section.getBoundingClientRect().top < 160) ?? list[0];
      const now = here && links.get(here.id);
      if (!now || now.hasAttribute("aria-current")) return;
      links.forEach((link) => link.removeAttribute("aria-current"));
      now.setAttribute("aria-current", "true");
      bring(now);
    }, { rootMargin: "0px 0px -60% 0px", threshold: [0, 0.05, 0.5] });
    sections().forEach((section) => watch.observe(section));
  }
})();

(() => {
  const root = document.documentElement, all = (s, e = document) => [...e.querySelectorAll(s)];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = (text, click) => { const b = document.createElement("button"); b.type = "button"; b.textContent = text; b.onclick = click; return b; };

  // Theme: follows the system until the reader chooses; choosing what the system says means following it again.
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  const toggle = document.querySelector("[data-theme-toggle]");
  const paint = () => { toggle.textContent = isDark() ? "Light" : "Dark"; toggle.setAttribute("aria-label", "Switch to the " + toggle.textContent.toLowerCase() + " theme"); };
  toggle.onclick = () => {
    const next = isDark() ? "light" : "dark", system = (next === "dark") === dark.matches;
    if (system) delete root.dataset.theme; else root.dataset.theme = next;
    try { system ? localStorage.removeItem("journeykit-theme") : localStorage.setItem("journeykit-theme", next); } catch {}
    paint();
  };
  dark.onchange = paint;
  paint();

  // Chapters on a narrow screen.
  const menu = document.querySelector("[data-menu]");
  const open = on => { root.classList.toggle("menu-open", on); menu.setAttribute("aria-expanded", on); };
  menu.onclick = () => open(!root.classList.contains("menu-open"));
  document.addEventListener("keydown", e => { if (e.key === "Escape" && root.classList.contains("menu-open")) { open(false); menu.focus(); } });
  all("#nav a").forEach(a => a.addEventListener("click", () => open(false)));

  // Code of the whole page.
  const code = document.querySelector("[data-code-toggle]");
  if (code) code.onclick = () => {
    const on = code.getAttribute("aria-pressed") !== "true";
    code.setAttribute("aria-pressed", on);
    code.textContent = on ? "Hide code" : "Show code";
    root.classList.toggle("show-code", on);
    all("details.code").forEach(d => d.open = on);
  };

  // Tables: sort by a column (up, down, as it was), fold the long ones.
  const text = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  all("table.sortable").forEach(table => {
    const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const sort = () => {
        const was = head.getAttribute("aria-sort"), now = was === "ascending" ? "descending" : was ? "" : "ascending";
        heads.forEach(h => h.removeAttribute("aria-sort"));
        if (now) head.setAttribute("aria-sort", now);
        const sign = now === "descending" ? -1 : 1, byNumber = rows.some(r => r.cells[i]?.dataset.sort);
        const key = r => { const c = r.cells[i], d = c?.dataset; return byNumber ? (d?.sort ? +d.sort : NaN) : d?.sortText || c?.textContent.trim() || ""; };
        const keyed = rows.map(r => [key(r), r]);
        if (now) keyed.sort(([a], [b]) => byNumber ? isNaN(a) - isNaN(b) || sign * (a - b) || 0 : (a === "") - (b === "") || sign * text.compare(a, b));
        body.append(...keyed.map(k => k[1]));
      };
      if (!head.textContent.trim()) return;
      const b = button("", sort);
      b.append(...head.childNodes);
      head.append(b);
    });
  });
  all(".scroll > table").forEach(table => {
    const n = table.tBodies[0]?.rows.length || 0;
    if (n <= 15) return;
    table.classList.add("folded");
    const b = button(`Show all ${n} rows`, () => { b.textContent = table.classList.toggle("folded") ? `Show all ${n} rows` : "Show the first 12 rows"; });
    b.className = "unfold";
    table.parentNode.after(b);
  });

  // A box that scrolls can be reached with the keyboard, says what it holds, and fades where it goes on.
  const boxes = () => all(".scroll, figure").forEach(box => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("beyond", wide && box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
    if (!wide && box.scrollHeight <= box.clientHeight + 1) return ["tabindex", "role", "aria-label"].forEach(a => box.removeAttribute(a));
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", box.localName === "figure" ? "Figure, scrolls sideways" : "Table, scrolls");
    box.onscroll = boxes;
  });
  boxes();
  addEventListener("resize", boxes);
  addEventListener("load", boxes);

  // On paper everything is unfolded, except code that the reader did not ask for.
  let folded = [];
  addEventListener("beforeprint", () => { folded = all("details:not([open]):not(.code):not(.stderr)"); folded.forEach(d => d.open = true); });
  addEventListener("afterprint", () => folded.forEach(d => d.open = false));
})();

(() => {
  const nonce = document.currentScript.nonce, hint = matchMedia("(hover: none)").matches
    ? "Tap a part of the figure for its numbers." : "Point at a part of the figure for its numbers, or use the arrow keys.";
  const make = (name, set) => Object.assign(document.createElement(name), set);

  // The library is large: it is read when the first figure comes near.
  let reading;
  const library = () => reading ||= new Promise((done, failed) => document.head.append(
    make("script", { nonce, src: "assets/plotly.min.js", onload: () => done(window.Plotly), onerror: failed })));

  // The drawing gives way to the chart when that is whole; without script or library, and on paper, it stays.
  const draw = async figure => {
    const chart = make("div", { className: "chart", tabIndex: 0, role: "application" });
    const told = make("p", { className: "told", textContent: hint, ariaLive: "polite" });
    chart.ariaLabel = figure.querySelector("img")?.alt || "Figure";
    try {
      const plotly = await library(), { data, layout } = JSON.parse(figure.querySelector("script").textContent);
      const width = layout.meta?.width;
      if (width > 0) Object.assign(chart.style, { minWidth: .8 * width + "px", maxWidth: width + "px" });
      figure.append(chart, told);
      figure.classList.add("drawn");
      await plotly.newPlot(chart, data, { ...layout, autosize: true, paper_bgcolor: "#0000", plot_bgcolor: "#0000" },
        { displayModeBar: false, responsive: true, showTips: false });
      keys(chart, told);
      dispatchEvent(new Event("resize"));
    } catch {
      figure.classList.remove("drawn");
      chart.remove();
      told.remove();
    }
  };

  // From part to part with the arrow keys, as if it were pointed at.
  const keys = (chart, told) => {
    let at = -1, part;
    const point = (kind, { left, top, width, height }) => part.dispatchEvent(
      new MouseEvent(kind, { clientX: left + width / 2, clientY: top + height / 2 }));
    const leave = () => { if (part) point("mouseout", part.getBoundingClientRect()); part = null; };
    chart.onblur = leave;
    chart.onkeydown = e => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      const parts = [...chart.querySelectorAll(".sankey-node, .sankey-link")];
      if (e.key === "Escape") return leave();
      if (!step || !parts.length) return;
      e.preventDefault();
      leave();
      at = (at + step + parts.length) % parts.length;
      part = parts[at];
      for (const kind of ["mouseover", "mousemove"]) point(kind, part.getBoundingClientRect());
      const lines = [...chart.querySelectorAll(".hoverlayer text")].flatMap(text => {
        const several = text.querySelectorAll("tspan.line");
        return several.length ? [...several] : [text];
      });
      told.textContent = lines.map(line => line.textContent).filter(Boolean).join(", ") || hint;
    };
  };

  const near = new IntersectionObserver(all => all.filter(one => one.isIntersecting).forEach(({ target }) => {
    near.unobserve(target);
    draw(target);
  }), { rootMargin: "800px" });
  document.querySelectorAll("figure[data-interactive]").forEach(figure => near.observe(figure));
})();

"use strict";
// The page: totals, slides that need attention, filters, the plot's bars, and the way from slide to slide.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const slides = data.slides, own = data.columns;
  const byId = new Map(slides.map((slide) => [slide.id, slide]));
  const cohort = document.getElementById("cohort"), view = document.getElementById("slide");
  const table = makeTable(slides, own);
  const pooled = makePooled(data);
  const filters = document.getElementById("filters");
  let shown = slides;
  let current = null;

  function totals() {
    const count = (test) => slides.filter(test).length;
    const boxes = [["slides", slides.length], ["need attention", count((slide) => slide.bad)]];
    for (const name of Object.keys(CATEGORIES)) boxes.push([name, count((slide) => slide.row.er_category === name)]);
    boxes.push(["borderline", count((slide) => slide.row.borderline)], ["with flags", count((slide) => flagsOf(slide).length)]);
    document.getElementById("totals").append(...boxes.map(([text, value]) => element("div", { class: "total" },
      element("b", {}, number(value, 0)), element("span", {}, text in CATEGORIES ? categoryMark(text) : null, text))));
    document.getElementById("key").append(...Object.keys(CATEGORIES).map((name) =>
      element("span", {}, categoryMark(name), name)), "Click a bar to open its slide; bars that the filters leave out are pale.");
  }

  function attention() {
    const bad = slides.filter((slide) => slide.bad);
    if (!bad.length) return;
    const place = document.getElementById("attention");
    place.hidden = false;
    place.append(
      element("h2", {}, bad.length === 1 ? "1 slide needs attention" : `${number(bad.length, 0)} slides need attention`),
      element("ul", {}, bad.map((slide) => element("li", {}, element("a", { href: address(slide.id) }, slide.id),
        ` (${words(slide.row.status || "no status")}): ${slide.row.message || "no message"}`))));
  }

  function choice(name, text, values) {
    const options = [...new Set(values.filter(Boolean))].sort();
    return element("label", {}, text, element("select", { name: name },
      element("option", { value: "" }, "all"), options.map((value) => element("option", { value: value }, words(value)))));
  }

  function makeFilters() {
    filters.append(
      element("label", {}, "Search (key /)", element("input", { type: "search", name: "text", autocomplete: "off" })),
      choice("status", "Status", slides.map((slide) => slide.row.status)),
      choice("category", "ER category", slides.map((slide) => slide.row.er_category)),
      choice("flag", "Flag", slides.flatMap(flagsOf)),
      element("label", {}, "Positive % from", element("input", { type: "number", name: "from", min: 0, max: 100, step: "any" })),
      element("label", {}, "to", element("input", { type: "number", name: "to", min: 0, max: 100, step: "any" })),
      element("label", { class: "check" }, element("input", { type: "checkbox", name: "borderline" }), "borderline only"),
      element("button", { type: "reset" }, "Clear"),
      element("span", { class: "count", role: "status", id: "count" }));
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("input", filter);
    filters.addEventListener("reset", () => setTimeout(filter));
  }

  function filter() {
    const wanted = filters.elements, text = wanted.text.value.trim().toLowerCase();
    const from = wanted.from.value === "" ? null : Number(wanted.from.value);
    const to = wanted.to.value === "" ? null : Number(wanted.to.value);
    table.setFilter((row) =>
      (!text || row.text.includes(text)) &&
      (!wanted.status.value || row.status === wanted.status.value) &&
      (!wanted.category.value || row.category === wanted.category.value) &&
      (!wanted.flag.value || flagsOf(slides[row.index]).includes(wanted.flag.value)) &&
      (!wanted.borderline.checked || row.borderline) &&
      (from === null || row.percent >= from) && (to === null || row.percent <= to));
  }

  function followTable(filters, rows) {
    const kept = new Set(rows.map((row) => row.getData().index));
    document.getElementById("count").textContent = `${number(kept.size, 0)} of ${number(slides.length, 0)} slides`;
    for (const bar of document.querySelectorAll("#plot [data-slide]")) {
      bar.classList.toggle("out", !kept.has(Number(bar.dataset.slide)));
    }
  }

  function bars() {
    slides.forEach((slide, index) => {
      const bar = document.getElementById("bar-" + index);
      if (!bar) return;
      bar.dataset.slide = index;
      const text = document.createElementNS("http://www.w3.org/2000/svg", "title");
      text.textContent = `${slide.id}: ${number(slide.row.percent_positive, 2)} %, ${slide.row.er_category}`;
      bar.prepend(text);
      bar.addEventListener("click", () => { location.hash = address(slide.id); });
    });
  }

  function runSection() {
    const place = document.getElementById("run");
    if (data.files.length) {
      place.append(element("h2", {}, "Tables"), facts(data.files.map((file) => [
        element("a", { href: "../" + encodeURIComponent(file.file) }, file.file), file.title])));
    }
    if (data.run) {
      place.append(element("h2", {}, "How the table was made"), element("details", {},
        element("summary", {}, `ercohort ${data.run.ercohort || ""}: versions, devices and settings (run.json)`),
        element("pre", { tabindex: "0" }, JSON.stringify(data.run, null, 2))));
    }
  }

  function route() {
    const wanted = location.hash.startsWith("#/slide/") ? decode(location.hash.slice("#/slide/".length)) : null;
    const slide = wanted === null ? null : byId.get(wanted);
    if (!slide) {
      const wasOpen = !view.hidden;
      view.hidden = true;
      cohort.hidden = false;
      document.title = "ER cohort report";
      if (wasOpen) {
        for (const one of [table, ...pooled]) one.redraw();
        backTo(current);
      }
      return;
    }
    if (view.hidden) {
      const rows = table.getRows("active").map((row) => slides[row.getData().index]);
      shown = rows.includes(slide) ? rows : slides;
    }
    current = slide;
    const at = shown.indexOf(slide);
    const place = `${number(at + 1, 0)} of ${number(shown.length, 0)}`;
    showSlide(view, slide, own, { before: shown[at - 1], after: shown[at + 1], place: place });
    cohort.hidden = true;
    view.hidden = false;
    document.title = slide.id + " · ER cohort report";
    scrollTo(0, 0);
    document.getElementById("slide-heading").focus();
  }

  // The keyboard goes on from the slide that was looked at last.
  function backTo(slide) {
    const focus = () => {
      const link = [...document.querySelectorAll("#table .tabulator-row a")].find((one) => one.textContent === slide.id);
      if (link) link.focus();
    };
    // After the table, which was hidden, has drawn its rows anew.
    table.scrollToRow(slides.indexOf(slide), "nearest", false).catch(() => null);
    setTimeout(focus, 100);
  }

  function decode(text) {
    try { return decodeURIComponent(text); } catch (error) { return text; }
  }

  function go(button) {
    if (button && button.dataset.go !== undefined) location.hash = address(button.dataset.go);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing && event.key === "Escape") event.target.blur();
    if (typing) return;
    const buttons = view.hidden ? [] : view.querySelectorAll(".crumbs button");
    if (event.key === "/" && view.hidden) { event.preventDefault(); filters.elements.text.focus(); }
    if (event.key === "Escape" && !view.hidden) location.hash = "#/";
    if (event.key === "p") go(buttons[0]);
    if (event.key === "n") go(buttons[1]);
  });
  view.addEventListener("click", (event) => go(event.target.closest("button[data-go]")));

  totals();
  attention();
  makeFilters();
  bars();
  runSection();
  table.on("dataFiltered", followTable);
  table.on("tableBuilt", () => {
    document.getElementById("count").textContent = `${number(slides.length, 0)} of ${number(slides.length, 0)} slides`;
    addEventListener("hashchange", route);
    route();
    document.documentElement.dataset.ready = "yes";
  });
})();

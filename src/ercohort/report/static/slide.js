"use strict";
// The view of one slide.

function facts(rows, heads) {
  const body = rows.map((cells) => element("tr", {}, cells.map((cell, at) => {
    const numeric = at > 0 && typeof cell === "object" && cell !== null && "number" in cell;
    const content = numeric ? cell.number : cell;
    return element(at ? "td" : "th", { class: numeric ? "number" : null, scope: at ? null : "row" }, content);
  })));
  const head = heads && element("thead", {}, element("tr", {}, heads.map((text, at) =>
    element("th", { scope: "col", class: at ? "number" : null }, text))));
  return element("table", { class: "facts" }, head || null, element("tbody", {}, body));
}

function section(heading, ...content) {
  return element("section", {}, element("h2", {}, heading), ...content);
}

function shownScore(row, [name, , decimals]) {
  const value = row[name];
  if (name === "borderline") return value === true ? "yes" : value === false ? "no" : null;
  if (value === undefined || value === null) return null;
  return decimals === null ? value : number(value, decimals);
}

function scoreSection(slide) {
  const rows = [];
  for (const score of SCORES) {
    const shown = shownScore(slide.row, score);
    if (shown !== null) rows.push([score[1], { number: shown }, element("span", { class: "explained" }, score[3])]);
  }
  for (const [name, value] of Object.entries(slide.row)) {
    if (name.startsWith("n_class_")) rows.push([name.slice("n_class_".length), { number: number(value, 0) }, "nuclei of this class"]);
  }
  return section("Scores", rows.length ? facts(rows) : element("p", {}, "This slide has no result."));
}

function regionSection(slide) {
  if (!slide.regions.length) return null;
  const shown = ["n_nuclei", "percent_positive", "er_category", "h_score", "allred_total", "tissue_mm2"];
  const scores = shown.map((name) => SCORES.find((score) => score[0] === name));
  const rows = slide.regions.map((region) => [
    region.region + (region.counted ? "" : " (does not count in the slide's row)"),
    ...scores.map((score) => ({ number: shownScore(region, score) || "" })),
  ]);
  return section("Regions", element("div", { class: "scroll" }, facts(rows, ["Region", ...scores.map((s) => s[1])])));
}

function flagSection(slide) {
  const flags = slide.flags.map((flag) => [words(flag.name), flag.number, flag.meaning]);
  return section("Quality flags", flags.length ? facts(flags) : element("p", {}, "None."));
}

function slideSection(slide, own) {
  const info = slide.slide, rows = own.filter((name) => slide.row[name]).map((name) => [name, slide.row[name]]);
  if (info.path) rows.push(["File", info.path]);
  if (info.vendor) rows.push(["Format", `${info.vendor}, read by ${info.reader}`]);
  if (info.width) rows.push(["Size", `${number(info.width, 0)} x ${number(info.height, 0)} px, ${number(info.file_bytes / 1e6, 1)} MB`]);
  if (info.mpp) rows.push(["Scale", `${number(info.mpp, 4)} µm per pixel, from the ${info.mpp_source}`]);
  if (slide.row.n_tiles !== undefined) rows.push(["Tiles", `${number(slide.row.n_tiles, 0)}, of which ${number(slide.row.n_tiles_failed || 0, 0)} could not be read`]);
  return section("Slide", facts(rows));
}

function madeSection(slide) {
  const row = slide.row, rows = [];
  for (const [name, text] of [["model", "Model"], ["backend", "Backend"], ["precision", "Precision"], ["stain_vectors", "Stain vectors"], ["version", "ercohort"]]) {
    if (row[name]) rows.push([text, row[name]]);
  }
  const devices = [...new Set(slide.shards.map((shard) => shard.device).filter(Boolean))];
  if (devices.length) rows.push(["Device", devices.join(", ")]);
  for (const shard of slide.shards) if (shard.fallback) rows.push(["Not on the GPU", String(shard.fallback)]);
  return section("How it was made", facts(rows));
}

function timeSection(slide) {
  const stages = new Map();
  let seconds = 0;
  for (const shard of slide.shards) {
    seconds += shard.seconds || 0;
    for (const [name, value] of Object.entries(shard.stages || {})) stages.set(name, (stages.get(name) || 0) + value);
  }
  if (!seconds) return null;
  const rows = [["detection, from start to end", { number: number(seconds, 2) }]];
  for (const [name, value] of stages) rows.push([words(name), { number: number(value, 2) }]);
  return section("Time", facts(rows, ["Stage", "Seconds"]),
    element("p", { class: "explained" }, "Stages run beside each other: their times do not add up to the first line."));
}

function folderOf(slide) {
  return "../slides/" + encodeURIComponent(slide.id) + "/";
}

function fileSection(slide) {
  const links = slide.files.map((file) => [
    element("a", { href: folderOf(slide) + encodeURIComponent(file.file) }, file.file), file.title,
  ]);
  const served = location.protocol.startsWith("http");
  const zoom = served
    ? [element("a", { href: "../view/" + encodeURIComponent(slide.id) }, "Open the slide with its nuclei")]
    : ["To look at the slide with its nuclei, run ", element("code", {}, `ercohort view results ${slide.id}`)];
  return section("Files", slide.slide.width ? element("p", {}, zoom) : null, facts(links));
}

function pictureFigures(slide) {
  // Without nuclei, all pictures say the same; they are among the files.
  const shown = slide.row.n_nuclei ? slide.pictures : slide.pictures.slice(0, 1);
  return shown.map((picture) => {
    const source = folderOf(slide) + encodeURIComponent(picture.file);
    const image = element("img", { src: source, alt: `${picture.title}: ${slide.id}` });
    return element("figure", { class: "picture" }, element("figcaption", {}, picture.title),
      element("a", { href: source, title: "the picture alone, at full size" }, image));
  });
}

function headline(slide) {
  const row = slide.row, line = element("p", { class: "headline" });
  if (row.percent_positive !== undefined) {
    line.append(categoryMark(row.er_category), element("strong", {}, row.er_category),
      `: ${number(row.percent_positive, 2)} % of ${number(row.n_nuclei, 0)} nuclei are positive` +
      ` (95 % interval ${number(row.ci_low, 2)} to ${number(row.ci_high, 2)} %)`,
      row.borderline ? element("strong", {}, ", borderline") : "");
  } else {
    line.append(element("span", { class: slide.bad ? "status-bad" : null }, (slide.bad ? "! " : "") + words(row.status || "no status")));
  }
  if (slide.simulated) line.append(element("span", { class: "simulated" }, "Simulated slide"));
  return line;
}

function showSlide(target, slide, own, neighbours) {
  const step = (other, text, key) => element("button", { type: "button", disabled: other ? null : true, "data-go": other ? other.id : null, title: `key ${key}` }, text);
  const figures = pictureFigures(slide);
  const content = [
    element("nav", { class: "crumbs", "aria-label": "Slides" },
      element("a", { href: "#/", id: "back" }, "← All slides"),
      step(neighbours.before, "Previous slide", "p"), step(neighbours.after, "Next slide", "n"),
      element("span", { class: "explained" }, neighbours.place)),
    element("h1", { tabindex: "-1", id: "slide-heading" }, slide.id),
    headline(slide),
    slide.row.message ? element("p", { class: "message" + (slide.bad ? " bad" : "") }, slide.row.message) : null,
    element("div", { class: "columns wide" },
      element("div", {}, scoreSection(slide), flagSection(slide)),
      element("div", {}, figures.slice(0, 1))),
    regionSection(slide),
    ...figures.slice(1),
    element("div", { class: "columns" },
      element("div", {}, slideSection(slide, own), fileSection(slide)),
      element("div", {}, madeSection(slide), timeSection(slide))),
  ];
  target.replaceChildren(...content.filter(Boolean));
}

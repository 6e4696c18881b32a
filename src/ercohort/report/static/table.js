"use strict";
// What is known of the columns, and the table. Text from the data is only ever set as text, never as HTML.

const CATEGORIES = { Negative: "negative", "Low Positive": "low", Positive: "positive" };

// name, title, decimals (null: text), explanation
const SCORES = [
  ["n_nuclei", "Nuclei", 0, "tumour nuclei counted, each once"],
  ["n_positive", "Positive", 0, ""],
  ["n_negative", "Negative", 0, ""],
  ["percent_positive", "Positive %", 2, "share of positive nuclei"],
  ["ci_low", "Interval from %", 2, "95 % Wilson interval of the count"],
  ["ci_high", "Interval to %", 2, ""],
  ["er_category", "ER category", null, "ASCO/CAP 2020: Negative below 1 %, Low Positive 1 to 10 %, Positive above"],
  ["borderline", "Borderline", null, "the category could be the one beside it"],
  ["h_score", "H-score", 1, "0 to 300: 1 x % weak + 2 x % moderate + 3 x % strong"],
  ["allred_total", "Allred", 0, "0, 2 to 8"],
  ["allred_proportion", "Allred proportion", 0, "0 to 5"],
  ["allred_intensity", "Allred intensity", 0, "0 to 3"],
  ["n_weak", "Weak (1+)", 0, "nuclei, by the optical density of DAB"],
  ["n_moderate", "Moderate (2+)", 0, ""],
  ["n_strong", "Strong (3+)", 0, ""],
  ["percent_od_disagrees", "Density disagrees %", 2, "nuclei that their optical density would class otherwise"],
  ["tissue_mm2", "Tissue mm²", 3, ""],
  ["nuclei_per_mm2", "Nuclei per mm²", 0, ""],
];
const IN_TABLE = ["n_nuclei", "h_score", "allred_total"];

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(child);
  return made;
}

function number(value, decimals) {
  if (value === null || value === undefined) return "";
  return value.toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function words(text) {
  return String(text).replaceAll("_", " ");
}

function categoryMark(category) {
  return element("span", { class: "mark " + (CATEGORIES[category] || ""), "aria-hidden": "true" });
}

function address(id) {
  return "#/slide/" + encodeURIComponent(id);
}

function flagsOf(slide) {
  return (slide.row.qc_flags || "").split(";").filter(Boolean);
}

function makeRow(slide, index, own) {
  const row = slide.row;
  const values = {
    index: index, id: slide.id, bad: slide.bad, status: row.status, category: row.er_category,
    percent: row.percent_positive, low: row.ci_low, high: row.ci_high,
    borderline: Boolean(row.borderline), flags: flagsOf(slide).map(words).join(", "), message: row.message,
  };
  for (const name of IN_TABLE) values["s_" + name] = row[name];
  own.forEach((name, at) => { values["own_" + at] = row[name]; });
  values.text = [slide.id, row.status, row.er_category, values.flags, row.message, ...own.map((name) => row[name])]
    .filter(Boolean).join("\n").toLowerCase();
  return values;
}

function title(text, explanation) {
  return () => element("span", { title: explanation || null }, text);
}

function makeColumns(own) {
  const last = { alignEmptyValues: "bottom" };
  const numeric = (name, text, decimals, explanation) => ({
    field: name, title: text, titleFormatter: title(text, explanation), hozAlign: "right", sorter: "number",
    sorterParams: last, formatter: (cell) => number(cell.getValue(), decimals),
  });
  const textual = (name, text, more) => ({
    field: name, title: text, titleFormatter: title(text), sorter: "string", sorterParams: last, ...more,
  });
  const scores = SCORES.filter(([name]) => IN_TABLE.includes(name));
  return [
    textual("id", "Slide", {
      frozen: true, minWidth: 130, sorter: "alphanum",
      formatter: (cell) => element("a", { href: address(cell.getValue()) }, cell.getValue()),
    }),
    textual("status", "Status", {
      formatter: (cell) => element("span", { class: cell.getData().bad ? "status-bad" : null },
        (cell.getData().bad ? "! " : "") + words(cell.getValue() || "no status")),
    }),
    textual("category", "ER category", {
      formatter: (cell) => cell.getValue() ? element("span", {}, categoryMark(cell.getValue()), cell.getValue()) : "",
    }),
    numeric("percent", "Positive %", 2, "share of positive nuclei"),
    numeric("low", "95 % from", 2, "95 % Wilson interval of the count"),
    numeric("high", "to", 2),
    textual("borderline", "Borderline", { sorter: "boolean", formatter: (cell) => (cell.getValue() ? "yes" : "") }),
    ...scores.map(([name, text, decimals, explanation]) => numeric("s_" + name, text, decimals, explanation)),
    textual("flags", "Flags"),
    ...own.map((name, at) => textual("own_" + at, name, { sorter: "alphanum" })),
    textual("message", "Message", { minWidth: 260 }),
  ];
}

function makeTable(slides, own) {
  const table = new Tabulator("#table", {
    data: slides.map((slide, index) => makeRow(slide, index, own)),
    columns: makeColumns(own),
    index: "index",
    nestedFieldSeparator: false,
    layout: "fitDataFill",
    maxHeight: "min(640px, 75vh)",
    columnHeaderSortMulti: true,
    placeholder: "No slide fits the filters.",
    rowFormatter: (row) => row.getElement().classList.toggle("bad", row.getData().bad),
  });
  table.on("tableBuilt", () => keyboardHeaders(table));
  table.on("rowDblClick", (event, row) => { location.hash = address(row.getData().id); });
  return table;
}

// Column headings are buttons: reached with Tab, sorted with Enter or the space bar.
function keyboardHeaders(table) {
  for (const column of table.getColumns()) {
    const heading = column.getElement();
    heading.tabIndex = 0;
    heading.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      heading.click();
    });
  }
}

"use strict";
// Tables below that of the slides: slides pooled by patient or group, and the regions of the slides.

const POOLED = ["n_nuclei", "percent_positive", "ci_low", "ci_high", "er_category", "borderline", "h_score", "allred_total", "tissue_mm2"];

function pooledColumns() {
  return SCORES.filter(([name]) => POOLED.includes(name)).map(([name, text, decimals, explanation]) => {
    const column = { field: name, title: text, titleFormatter: title(text, explanation), sorterParams: { alignEmptyValues: "bottom" } };
    if (name === "er_category") {
      column.formatter = (cell) => cell.getValue() ? element("span", {}, categoryMark(cell.getValue()), cell.getValue()) : "";
    } else if (name === "borderline") {
      Object.assign(column, { sorter: "boolean", formatter: (cell) => (cell.getValue() ? "yes" : "") });
    } else {
      Object.assign(column, { hozAlign: "right", sorter: "number", formatter: (cell) => number(cell.getValue(), decimals) });
    }
    return column;
  });
}

function pooledTable(place, heading, explanation, file, rows, columns) {
  const target = element("div", {});
  place.append(element("h2", {}, heading), element("p", { class: "explained" }, explanation, " ",
    element("a", { href: "../" + file }, file)), target);
  const table = new Tabulator(target, {
    data: rows,
    columns: [...columns, ...pooledColumns(), { field: "qc_flags", title: "Flags", titleFormatter: title("Flags"), formatter: (cell) => element("span", {}, words(cell.getValue() ?? "")) }],
    nestedFieldSeparator: false,
    layout: "fitDataFill",
    maxHeight: "min(420px, 60vh)",
    columnHeaderSortMulti: true,
  });
  table.on("tableBuilt", () => keyboardHeaders(table));
  return table;
}

// Returns the tables that there are.
function makePooled(data) {
  const made = [];
  const text = (field, name, more) => ({ field: field, title: name, titleFormatter: title(name), sorter: "alphanum", formatter: (cell) => element("span", {}, cell.getValue() ?? ""), ...more });
  if (data.groups && data.groups.rows.length) {
    const column = data.groups.column;
    const slides = (row) => row.n_slides === row.n_slides_counted ? number(row.n_slides, 0)
      : `${number(row.n_slides_counted, 0)} of ${number(row.n_slides, 0)}`;
    made.push(pooledTable(document.getElementById("groups"), `Slides pooled by ${column}`,
      "Nuclei of all counted slides of one value are added up; percentages are never averaged.", "cohort_er_by_group.csv",
      data.groups.rows.map((row) => ({ ...row, own: row[column], slides: slides(row) })),
      [text("own", column, { frozen: true, minWidth: 130 }), text("slides", "Slides counted", { hozAlign: "right" })]));
  }
  const regions = data.slides.flatMap((slide) => slide.regions.map((region) => ({ ...region, slide: slide.id })));
  // Where no slide has a region drawn, the table of the slides says it all.
  if (regions.some((region) => region.region !== "tissue")) {
    made.push(pooledTable(document.getElementById("regions"), "Regions",
      "Every region of every slide; one that does not count is left out of its slide's row.", "cohort_er_regions.csv",
      regions.map((region) => ({ ...region, counts: region.counted ? "yes" : "no" })),
      [text("slide", "Slide", {
        frozen: true, minWidth: 130,
        formatter: (cell) => element("a", { href: address(cell.getValue()) }, cell.getValue()),
      }), text("region", "Region"), text("counts", "Counts")]));
  }
  return made;
}

"use strict";
// One slide with its nuclei.

(() => {
  const slide = JSON.parse(document.getElementById("data").textContent);
  const controls = document.getElementById("controls");
  const style = { shown: slide.classes.map(() => true), colour: "class", score: 0, version: 0 };
  const layer = new NucleiLayer(slide, style);
  let nuclei = null;

  function slideSource() {
    const source = new OpenSeadragon.TileSource({ width: slide.width, height: slide.height, tileSize: TILE, tileOverlap: 0 });
    source.maxLevel = Math.ceil(Math.log2(Math.max(slide.width, slide.height)));
    source.minLevel = Math.max(source.maxLevel - slide.greatestZoom, 0);
    source.getTileUrl = (level, x, y) => `../tiles/${encodeURIComponent(slide.id)}/${source.maxLevel - level}/${x}_${y}.jpg`;
    return source;
  }

  const viewer = new OpenSeadragon.Viewer({
    element: document.getElementById("slide"),
    showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_RIGHT", navigatorBackground: "#e9ebee",
    drawer: "canvas", maxZoomPixelRatio: 4, minZoomImageRatio: 0.8, visibilityRatio: 0.5, animationTime: 0.4,
    maxImageCacheCount: 600, imageLoaderLimit: 8, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });

  viewer.addTiledImage({ tileSource: slideSource(), success: () => {
    viewer.addTiledImage({ tileSource: layer.source(), x: 0, width: 1, success: (event) => {
      nuclei = event.item;
      document.documentElement.dataset.ready = "yes";
    } });
  } });
  viewer.addHandler("canvas-key", (event) => { if (/^[rRf]$/.test(event.originalEvent.key)) event.preventDefaultAction = true; });

  function mark(colour) {
    const made = document.createElement("span");
    made.className = "mark";
    made.style.borderColor = `rgb(${colour.join(" ")})`;
    return made;
  }

  const grades = document.getElementById("grades");
  document.getElementById("colours").hidden = !slide.graded;
  GRADE_COLOURS.forEach((colour, grade) => {
    const one = document.createElement("span");
    one.append(mark(colour), grade ? `${grade}+` : "0");
    grades.append(one);
  });

  slide.classes.forEach((one, index) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { style.shown[index] = box.checked; restyle(); });
    label.append(box, mark(one.colour), one.name);
    document.getElementById("classes").append(label);
  });

  function restyle() {
    style.version += 1;
    if (!nuclei) return;
    nuclei.reset();
    viewer.forceRedraw();
  }

  let later = 0;
  controls.score.addEventListener("input", () => {
    document.getElementById("least").value = Number(controls.score.value).toFixed(2);
    clearTimeout(later);
    later = setTimeout(() => { style.score = Number(controls.score.value); restyle(); }, 120);
  });
  controls.colour.addEventListener("change", () => { style.colour = controls.colour.value; grades.hidden = style.colour !== "grade"; restyle(); });
  controls.nuclei.addEventListener("change", () => { if (nuclei) nuclei.setOpacity(controls.nuclei.checked ? 1 : 0); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  const zoomBy = (factor) => { viewer.viewport.zoomBy(factor); viewer.viewport.applyConstraints(); };
  document.getElementById("in").addEventListener("click", () => zoomBy(2));
  document.getElementById("out").addEventListener("click", () => zoomBy(0.5));
  document.getElementById("home").addEventListener("click", () => viewer.viewport.goHome());
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") viewer.viewport.goHome();
    if (event.key === "v") controls.nuclei.click();
  });

  function scaleBar() {
    const image = viewer.world.getItemAt(0);
    if (!image) return;
    const scale = image.viewportToImageZoom(viewer.viewport.getZoom(true));
    const um = (120 * slide.mpp) / scale, digit = 10 ** Math.floor(Math.log10(um));
    const length = [5, 2, 1].find((step) => step * digit <= um) * digit;
    const bar = document.getElementById("bar");
    bar.firstElementChild.style.width = `${(length * scale) / slide.mpp}px`;
    bar.lastElementChild.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    const how = scale < 2 ** -(slide.outlineZoom + 0.5) ? ", nuclei as density" : "";
    document.getElementById("place").textContent = `1 pixel = ${(slide.mpp / scale).toPrecision(2)} µm${how}`;
  }
  viewer.addHandler("update-viewport", scaleBar);
  globalThis.ercohortViewer = viewer;
})();

"use strict";
// A layer of nuclei for OpenSeadragon: each of its tiles is fetched as numbers and drawn here.

const TILE = 512, GRID = 128, OUTLINES = 1, ENLARGED = 2, KEPT = 400, BUDGET_MS = 6;

// Of grades 0 to 3+: apart in lightness and in hue, with any colour blindness.
const GRADE_COLOURS = [[70, 110, 220], [255, 221, 60], [240, 120, 20], [140, 0, 30]];

class NucleiLayer {
  // slide: size, zooms, classes; style: which classes are shown, the colours' meaning, the least score
  constructor(slide, style) {
    this.slide = slide;
    this.style = style;
    this.known = new Map();
    this.waiting = [];
  }

  // Two levels finer than the slide's own, so that outlines stay sharp where it is enlarged.
  source() {
    const layer = this, scale = 2 ** ENLARGED;
    const source = new OpenSeadragon.TileSource({
      width: this.slide.width * scale, height: this.slide.height * scale, tileSize: TILE, tileOverlap: 0,
      minLevel: 0, maxLevel: this.slide.greatestZoom + 9 + ENLARGED,
    });
    // TileSource derives its levels from the size; zoom 0 is one screen pixel per level-0 pixel.
    source.maxLevel = Math.ceil(Math.log2(Math.max(source.dimensions.x, source.dimensions.y)));
    source.minLevel = Math.max(source.maxLevel - ENLARGED - this.slide.greatestZoom, 0);
    source.getTileUrl = (level, x, y) => layer.address(source.maxLevel - ENLARGED - level, x, y);
    source.getTileHashKey = (level, x, y) => `nuclei/${level}/${x}_${y}/${layer.style.version}`;
    source.hasTransparency = () => true;
    source.downloadTileStart = (job) => layer.start(job);
    source.downloadTileAbort = (job) => { if (job.userData) job.userData.aborted = true; };
    return source;
  }

  address(zoom, x, y) {
    const score = zoom > this.slide.outlineZoom && this.style.score > 0 ? `?score=${this.style.score}` : "";
    return `../nuclei/${encodeURIComponent(this.slide.id)}/${zoom}/${x}_${y}${score}`;
  }

  async start(job) {
    const userData = (job.userData = job.userData || {});
    try {
      const bytes = await this.fetch(job.src);
      if (userData.aborted) return;
      this.waiting.push({ job: job, bytes: bytes, zoom: Number(job.src.split("/")[3]) });
      if (this.waiting.length === 1) requestAnimationFrame(() => this.draw());
    } catch (error) {
      job.fail(`nuclei: ${error}`, null);
    }
  }

  // Bytes of tiles that were seen are kept: another class or threshold only draws them again.
  async fetch(address) {
    let bytes = this.known.get(address);
    if (bytes === undefined) {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(`${answer.status} for ${address}`);
      bytes = await answer.arrayBuffer();
    }
    this.known.delete(address);
    this.known.set(address, bytes);
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    return bytes;
  }

  // A few tiles per frame, so that moving the slide never waits for nuclei.
  draw() {
    const until = performance.now() + BUDGET_MS;
    do {
      const { job, bytes, zoom } = this.waiting.shift();
      if (!job.userData.aborted) job.finish(drawTile(bytes, zoom, this.slide.classes, this.style), null, "context2d");
    } while (this.waiting.length && performance.now() < until);
    if (this.waiting.length) requestAnimationFrame(() => this.draw());
  }
}

function drawTile(bytes, zoom, classes, style) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE;
  const context = canvas.getContext("2d");
  const [kind, count] = new Uint32Array(bytes, 0, 2);
  if (kind === OUTLINES) drawOutlines(context, bytes, count, 2 ** -zoom, classes, style);
  else drawDensity(context, bytes, count, zoom, classes, style);
  return context;
}

function drawOutlines(context, bytes, count, scale, classes, style) {
  const boxes = new Float32Array(bytes, 8, 4 * count);
  const kinds = new Uint8Array(bytes, 8 + 16 * count, count);
  const scores = new Uint8Array(bytes, 8 + 17 * count, count);
  const grades = new Uint8Array(bytes, 8 + 18 * count, count);
  const byGrade = style.colour === "grade", least = Math.floor(style.score * 255);
  const colours = byGrade ? GRADE_COLOURS : classes.map((one) => one.colour);
  const paths = colours.map(() => new Path2D());
  const used = new Set();
  let width = 0;
  for (let i = 0; i < count; i++) {
    if (!style.shown[kinds[i]] || scores[i] < least) continue;
    const x0 = boxes[4 * i] * scale, y0 = boxes[4 * i + 1] * scale, x1 = boxes[4 * i + 2] * scale, y1 = boxes[4 * i + 3] * scale;
    const which = byGrade ? grades[i] : kinds[i], x = (x0 + x1) / 2, y = (y0 + y1) / 2;
    paths[which].moveTo(x1, y);
    paths[which].ellipse(x, y, (x1 - x0) / 2, (y1 - y0) / 2, 0, 0, 2 * Math.PI);
    used.add(which);
    width = Math.max(width, x1 - x0);
  }
  for (const which of used) {
    const colour = `rgb(${colours[which].join(" ")})`;
    if (scale < 0.5) {
      context.fillStyle = colour;
      context.globalAlpha = 0.8;
      context.fill(paths[which]);
      continue;
    }
    // A pale rim under the line keeps it apart from stain of the same colour.
    context.lineWidth = scale < 1 ? 2.5 : 4;
    context.strokeStyle = "rgb(255 255 255 / 0.75)";
    context.stroke(paths[which]);
    context.lineWidth = scale < 1 ? 1.5 : 2;
    context.strokeStyle = colour;
    context.stroke(paths[which]);
  }
}

function drawDensity(context, bytes, nClasses, zoom, classes, style) {
  const counts = new Uint16Array(bytes, 8, nClasses * GRID * GRID);
  const picture = new ImageData(GRID, GRID), pixels = picture.data;
  // How full a bin can be grows with its area: about as many nuclei as touch each other hide the slide.
  const full = Math.max((((TILE / GRID) * 2 ** zoom) / 24) ** 2, 0.5);
  for (let bin = 0; bin < GRID * GRID; bin++) {
    let total = 0, red = 0, green = 0, blue = 0;
    for (let which = 0; which < nClasses; which++) {
      const count = style.shown[which] ? counts[which * GRID * GRID + bin] : 0;
      if (!count) continue;
      const colour = classes[which].colour;
      total += count; red += count * colour[0]; green += count * colour[1]; blue += count * colour[2];
    }
    if (!total) continue;
    pixels.set([red / total, green / total, blue / total, 255 * (0.25 + 0.6 * (1 - Math.exp((-2.5 * total) / full)))], 4 * bin);
  }
  const small = document.createElement("canvas");
  small.width = small.height = GRID;
  small.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, TILE, TILE);
}

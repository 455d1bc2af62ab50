// Three slices side by side that share their window, zoom and place.

export const WINDOWS = { lung: [-600, 1500], soft: [40, 400], bone: [400, 1800] }; // level, width
const MOST_ZOOM = 20;
const CRISP = 3; // device pixels a voxel, from which on voxels are shown as squares

export class Viewer {
  constructor(canvases, changed) {
    this.canvases = canvases;
    this.changed = changed;
    this.dragWindows = false;
    this.pointers = new Map();
    [this.level, this.width] = WINDOWS.lung;
    Object.assign(this, { rows: 1, columns: 1, images: null });
    this.fit();
    for (const canvas of canvases) this.listen(canvas);
    new ResizeObserver(() => this.draw()).observe(canvases[0]);
  }

  clear() {
    this.images = null;
    this.draw();
  }

  // images: Int16Arrays of HU in the order of the canvases
  show(images, rows, columns) {
    this.images = images.map((voxels) => {
      const bitmap = new OffscreenCanvas(columns, rows);
      return { voxels, bitmap, context: bitmap.getContext("2d") };
    });
    Object.assign(this, { rows, columns });
    this.fit();
    this.paint();
  }

  setWindow(level, width) {
    this.level = Math.round(Math.min(Math.max(level, -1100), 3100));
    this.width = Math.round(Math.min(Math.max(width, 1), 4200));
    this.paint();
  }

  fit() {
    Object.assign(this, { zoom: 1, x: this.columns / 2, y: this.rows / 2 });
    this.draw();
  }

  // Zoom by a factor; what lies at dx, dy CSS pixels from the centre stays there.
  zoomBy(factor, dx = 0, dy = 0) {
    const before = this.scale();
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    const after = this.scale();
    this.x += dx / before - dx / after;
    this.y += dy / before - dy / after;
    this.moveBy(0, 0);
  }

  // Move by CSS pixels; the centre stays on the slice.
  moveBy(dx, dy) {
    this.x = Math.min(Math.max(this.x - dx / this.scale(), 0), this.columns);
    this.y = Math.min(Math.max(this.y - dy / this.scale(), 0), this.rows);
    this.draw();
  }

  // CSS pixels a voxel
  scale() {
    const { clientWidth, clientHeight } = this.canvases[0];
    return this.zoom * Math.min(clientWidth / this.columns, clientHeight / this.rows);
  }

  // Grey levels of the window.
  paint() {
    const low = this.level - this.width / 2;
    for (const { voxels, context } of this.images ?? []) {
      const picture = context.createImageData(this.columns, this.rows);
      const pixels = new Uint32Array(picture.data.buffer);
      const grey = new Uint8ClampedArray(1);
      for (let i = 0; i < voxels.length; i++) {
        grey[0] = ((voxels[i] - low) * 255) / this.width;
        pixels[i] = 0xff000000 | (grey[0] * 0x010101);
      }
      context.putImageData(picture, 0, 0);
    }
    this.draw();
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.canvases.forEach((canvas, number) => this.drawOne(canvas, this.images?.[number]));
      this.changed();
    });
  }

  drawOne(canvas, image) {
    const ratio = devicePixelRatio;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    if (!image) return;
    const scale = this.scale() * ratio;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = scale < CRISP;
    context.imageSmoothingQuality = "high";
    context.setTransform(scale, 0, 0, scale, canvas.width / 2 - this.x * scale, canvas.height / 2 - this.y * scale);
    context.drawImage(image.bitmap, 0, 0);
  }

  listen(canvas) {
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), ...fromCentre(canvas, event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.drag(canvas, event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
  }

  drag(canvas, event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.images) return;
    const dx = event.clientX - before.clientX;
    const dy = event.clientY - before.clientY;
    const other = [...this.pointers.values()].find((x) => x.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (other) {
      const [was, is] = [before, event].map((x) => Math.hypot(x.clientX - other.clientX, x.clientY - other.clientY));
      this.zoomBy(is / Math.max(was, 1), ...fromCentre(canvas, other)); // the other finger rests
    } else if (this.dragWindows || event.buttons === 2) {
      const step = Math.max(this.width, 100) / 300; // HU a pixel
      this.setWindow(this.level + dy * step, this.width + dx * step);
    } else {
      this.moveBy(dx, dy);
    }
  }
}

function fromCentre(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
}

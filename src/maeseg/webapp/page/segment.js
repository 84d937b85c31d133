// The first tab: an image, its mask, and the mask over the image.

import { ask, blobOf, draw } from "./server.js";
import { Panel, percent, seconds } from "./panel.js";

const element = (id) => document.getElementById(id);

export class SegmentPanel extends Panel {
  constructor(runs) {
    super("segment", runs, (run) => (run.iou == null ? run.name : `${run.name} · IoU ${run.iou.toFixed(3)}`));
    this.opacity = element("opacity");
    this.opacity.addEventListener("input", () => this.blend());
    this.picture = this.tint = null;
  }

  update(image = this.image) {
    this.image = image;
    if (!image) return;
    this.answer(ask("segment", { run: this.run.name, name: image.name }, image.content), async (answer) => {
      this.picture = await draw(element("picture"), blobOf(answer.picture, "image/jpeg"));
      await draw(element("label"), blobOf(answer.shown_label, "image/png"));
      this.tint = await createImageBitmap(blobOf(answer.tint, "image/png"));
      this.blend();
      this.offer(blobOf(answer.label, "image/png"), image.name);
      element("legend").replaceChildren(...answer.classes.map(entry));
      this.facts(`${answer.width} × ${answer.height} pixels; ${seconds(answer.seconds)}`);
    });
  }

  // Draws the mask over the image, as opaque as the slider says: the server is not asked again.
  blend() {
    const share = this.opacity.value / 100;
    this.element.querySelector("output").textContent = percent(share);
    if (!this.picture) return;
    const canvas = element("overlay");
    [canvas.width, canvas.height] = [this.picture.width, this.picture.height];
    const context = canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0);
    context.globalAlpha = share;
    context.drawImage(this.tint, 0, 0);
  }

  offer(label, name) {
    const link = element("download");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(label);
    link.download = `${name.replace(/\.[^.]*$/, "")}.png`;
  }
}

// A class in the legend: its color, its name, and its share of the pixels.
function entry({ name, color, share }) {
  const item = document.createElement("li");
  const swatch = document.createElement("i");
  swatch.style.background = `rgb(${color})`;
  item.append(swatch, `${name} ${percent(share)}`);
  return item;
}

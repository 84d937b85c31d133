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
      const label = await draw(element("label"), blobOf(answer.shown_label, "image/png"));
      this.tint = tinted(label, answer.colour);
      this.blend();
      this.offer(blobOf(answer.label, "image/png"), image.name);
      const size = `${answer.width} × ${answer.height} pixels`;
      this.facts(`${size}, ${percent(answer.foreground)} of them foreground; ${seconds(answer.seconds)}`);
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
    context.drawImage(this.tint, 0, 0, canvas.width, canvas.height);
  }

  offer(label, name) {
    const link = element("download");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(label);
    link.download = `${name.replace(/\.[^.]*$/, "")}.png`;
  }
}

// A label as a canvas: foreground in a colour, background transparent.
function tinted(label, [red, green, blue]) {
  const canvas = new OffscreenCanvas(label.width, label.height);
  const context = canvas.getContext("2d");
  context.drawImage(label, 0, 0);
  const values = context.getImageData(0, 0, label.width, label.height);
  for (let place = 0; place < values.data.length; place += 4) {
    const foreground = values.data[place];
    values.data.set([red, green, blue, foreground], place);
  }
  context.putImageData(values, 0, 0);
  return canvas;
}

// The second tab: a share of an image's patches hidden, and what the network makes of them.

import { ask, blobOf, draw } from "./server.js";
import { Panel, percent, seconds } from "./panel.js";

const PICTURES = { image: "original", visible: "visible", reconstruction: "reconstruction" };

export class ReconstructPanel extends Panel {
  constructor(runs) {
    super("reconstruct", runs, (run) => run.name);
    this.slider = document.getElementById("ratio");
    this.output = this.element.querySelector("output");
    this.seed = 0;
    this.ratio = null; // as in training, until the slider is moved
    this.slider.addEventListener("input", () => this.say(this.slider.value / 100));
    this.slider.addEventListener("change", () => {
      this.ratio = this.slider.value / 100;
      this.update();
    });
    document.getElementById("fresh").addEventListener("click", () => {
      this.seed += 1;
      this.update();
    });
  }

  chosen() {
    this.ratio = null;
    super.chosen();
  }

  say(ratio) {
    this.output.textContent = percent(ratio);
  }

  update(image = this.image) {
    this.image = image;
    if (!image) return;
    const wanted = { run: this.run.name, name: image.name, mask_ratio: this.ratio, seed: this.seed };
    this.answer(ask("reconstruct", wanted, image.content), async (answer) => {
      for (const [kind, id] of Object.entries(PICTURES))
        await draw(document.getElementById(id), blobOf(answer[kind], "image/png"));
      this.slider.value = 100 * answer.mask_ratio;
      this.say(answer.mask_ratio);
      const share = `${answer.hidden} of ${answer.patches} patches hidden`;
      this.facts(`${share} (--mask_ratio ${answer.mask_ratio} --seed ${wanted.seed}); ${seconds(answer.seconds)}`);
      this.element.querySelector(".note").textContent = answer.note;
    });
  }
}

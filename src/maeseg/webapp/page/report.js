// The third tab: a run's report, made anew whenever it is looked at.

import { address } from "./server.js";
import { Panel } from "./panel.js";

export class ReportPanel extends Panel {
  constructor(runs) {
    super("report", runs, (run) => `${run.name} · ${run.verb}`);
    this.frame = this.element.querySelector("iframe");
  }

  update() {
    const page = address("report", { run: this.run.name });
    document.getElementById("report-alone").href = page;
    const loaded = new Promise((resolve) => this.frame.addEventListener("load", resolve, { once: true }));
    this.frame.src = page;
    this.answer(loaded, () => this.facts(""));
  }
}

// The tabs: those that the runs have something for. Data flows one way: an image is chosen, the open tab shows it.

import { ask } from "./server.js";
import { announce } from "./panel.js";
import { Chooser } from "./chooser.js";
import { SegmentPanel } from "./segment.js";
import { ReconstructPanel } from "./reconstruct.js";
import { ReportPanel } from "./report.js";

const KINDS = { segment: SegmentPanel, reconstruct: ReconstructPanel, report: ReportPanel };

const panels = [];
let chooser;
let image = null;
let open = null;

function start(found) {
  document.getElementById("root").textContent = found.root;
  document.title = `${found.root} | maeseg`;
  chooser = new Chooser(found.largest_upload, (chosen) => {
    image = chosen;
    open.update(image);
  });
  for (const [name, Kind] of Object.entries(KINDS))
    if (found[name].length) {
      const panel = new Kind(found[name]);
      panel.tab = document.getElementById(`${name}-tab`);
      panel.tab.hidden = false;
      panel.tab.addEventListener("click", () => show(panel));
      panel.tab.addEventListener("keydown", (event) => walk(panel, event));
      panel.element.addEventListener("run", () => offer(panel));
      panels.push(panel);
    }
  addEventListener("hashchange", () => show(named(location.hash)));
  show(named(location.hash));
}

const named = (hash) => panels.find((panel) => `#${panel.name}` === hash) ?? panels[0];

function show(panel) {
  if (panel === open) return;
  open = panel;
  history.replaceState(null, "", `#${panel.name}`);
  announce("");
  for (const each of panels) {
    each.element.hidden = each !== panel;
    each.tab.setAttribute("aria-selected", each === panel);
    each.tab.tabIndex = each === panel ? 0 : -1;
  }
  offer(panel);
  if (panel.image !== image || panel.name === "report") panel.update(image);
}

function offer(panel) {
  document.getElementById("chooser").hidden = panel.name === "report";
  if (panel.name !== "report") chooser.offer(panel.run);
}

// The arrow keys go from tab to tab, as in every list of tabs.
function walk(panel, event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = panels.at((panels.indexOf(panel) + step) % panels.length);
  show(next);
  next.tab.focus();
}

ask("runs").then(start).catch((error) => announce(error.message));

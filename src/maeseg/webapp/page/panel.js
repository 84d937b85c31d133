// What every tab has: a choice of runs, a line of facts, and one answer that counts: that to the latest question.

export class Panel {
  // name: of the tab; runs: what it has to choose from; caption: what the choice calls one of them.
  constructor(name, runs, caption) {
    this.name = name;
    this.runs = runs;
    this.element = document.getElementById(name);
    this.select = document.getElementById(`${name}-run`);
    this.select.replaceChildren(...runs.map((run) => new Option(caption(run), run.name)));
    this.select.addEventListener("change", () => this.chosen());
    this.latest = null;
  }

  get run() {
    return this.runs[this.select.selectedIndex];
  }

  chosen() {
    this.update();
    this.element.dispatchEvent(new Event("run", { bubbles: true }));
  }

  // Awaits an answer, and gives it to `show` unless something else has been asked meanwhile.
  async answer(question, show) {
    const mine = (this.latest = Symbol(this.name));
    this.element.classList.add("busy");
    this.facts("working …");
    announce("");
    try {
      const answer = await question;
      if (this.latest === mine) {
        await show(answer);
        this.showResults(true);
      }
    } catch (error) {
      if (this.latest === mine) {
        this.facts("");
        this.showResults(false); // they are another image's
        announce(error.message);
      }
    } finally {
      if (this.latest === mine) this.element.classList.remove("busy");
    }
  }

  facts(text) {
    this.element.querySelector(".facts").textContent = text;
  }

  showResults(shown) {
    for (const each of this.element.querySelectorAll(".result")) each.hidden = !shown;
  }
}

// Shows an error's line; an empty one takes it away.
export function announce(line) {
  const error = document.getElementById("error");
  error.textContent = line;
  error.hidden = !line;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
export const seconds = (time) => `${time.toFixed(2)} s`;

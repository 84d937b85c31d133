// The image to look at: dropped, pasted, chosen, or one of the run's own.

import { address, draw } from "./server.js";
import { announce } from "./panel.js";

const element = (id) => document.getElementById(id);

export class Chooser {
  // largest: bytes; take: is given { name, content }, whenever there is another.
  constructor(largest, take) {
    this.largest = largest;
    this.take = take;
    element("limits").textContent = `Up to ${largest / 2 ** 20} MB. It stays on this machine, in memory only.`;
    element("file").addEventListener("change", (event) => this.choose(event.target.files));
    document.addEventListener("paste", (event) => this.choose(event.clipboardData.files));
    document.addEventListener("dragover", (event) => this.drag(event, true));
    document.addEventListener("dragleave", (event) => this.drag(event, event.relatedTarget !== null));
    document.addEventListener("drop", (event) => {
      this.drag(event, false);
      this.choose(event.dataTransfer.files);
    });
  }

  drag(event, over) {
    event.preventDefault(); // the browser would leave the page and show the file
    document.body.classList.toggle("dragging", over);
  }

  choose([file]) {
    if (file) this.give(file.name, file);
  }

  give(name, content) {
    if (content.size > this.largest) {
      const [size, most] = [content.size, this.largest].map((bytes) => `${Math.round(bytes / 2 ** 20)} MB`);
      announce(`${name} is too large (${size}): the page takes up to ${most}, so scale it down, or use maeseg predict`);
      return;
    }
    element("chooser").classList.add("chosen");
    element("image-name").textContent = name;
    const thumbnail = element("thumbnail");
    draw(thumbnail, content).then(
      () => (thumbnail.hidden = false),
      () => (thumbnail.hidden = true), // a TIFF, which the server reads and a browser does not
    );
    this.take({ name, content });
  }

  // Offers the examples of a run.
  offer(run) {
    const buttons = run.examples.map((number) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const picture = new Image();
      picture.src = address("example", { run: run.name, number });
      picture.alt = `Example ${number}`;
      button.append(picture);
      button.addEventListener("click", async () => {
        this.give(`example ${number}`, await (await fetch(picture.src)).blob());
      });
      item.append(button);
      return item;
    });
    element("examples").hidden = !buttons.length;
    element("examples").querySelector("ul").replaceChildren(...buttons);
  }
}

// What the page asks the server for, and pictures out of its answers.

// An answer's JSON. Rejects with an Error whose message is one line to show.
export async function ask(path, parameters = {}, body = undefined) {
  const answer = await fetch(address(path, parameters), body && { method: "POST", body }).catch(() => {
    throw new Error("the server does not answer: is maeseg app still running?");
  });
  const content = await answer.json().catch(() => ({ error: "the server failed: its terminal says how" }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

// Parameters that are null or undefined are left out.
export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value != null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// A file in base64, as a Blob.
export function blobOf(base64, type) {
  return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type });
}

// Draws what createImageBitmap takes on a canvas, which becomes as large as that.
export async function draw(canvas, blob) {
  const picture = await createImageBitmap(blob);
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return picture;
}

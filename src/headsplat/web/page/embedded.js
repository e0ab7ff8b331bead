/** What a single-file export carries inside the page: gzip in base64, in script elements that do not run. */

async function unpack(element) {
  const packed = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  element.textContent = "";
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** The avatar in the page as `{buffer, name}`, or null. */
export async function embedded(id) {
  const element = document.getElementById(id);
  return element ? { buffer: await unpack(element), name: element.dataset.name } : null;
}

let files = null;

/** Where the face tracker's files in the page are (file name → address), or null. */
export async function embeddedFiles() {
  const elements = [...document.querySelectorAll("script[data-tracker]")];
  if (!elements.length) return null;
  if (!files) {
    files = new Map();
    for (const element of elements) {
      const type =
        { js: "text/javascript", wasm: "application/wasm" }[element.dataset.tracker.split(".").pop()] ??
        "application/octet-stream";
      files.set(element.dataset.tracker, URL.createObjectURL(new Blob([await unpack(element)], { type })));
    }
  }
  return (name) => files.get(name.split("/").pop()) ?? name;
}

/** The list of avatars; the chosen one unfolds into figures, refinement and downloads. */

import { download, photoAddress, posterAddress } from "./api.js";

const DOWNLOADS = { avatar: "Avatar", html: "Web page", mp4: "Film", ply: "PLY", spz: "SPZ", glb: "GLB", "mesh.glb": "Mesh" };
const STATES = { queued: "Waiting", done: "Ready", failed: "Did not work", cancelled: "Cancelled" };

const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const percent = (part) => `${Math.round(part * 100)} %`;

function figures({ gaussians, bytes, source_psnr: psnr, landmark_error: landmarks, seconds }) {
  const rows = {
    Gaussians: gaussians?.toLocaleString("en"),
    "File size": bytes && `${(bytes / 1e6).toFixed(1)} MB`,
    "Likeness to the photo": psnr && `${psnr.toFixed(1)} dB`,
    "Error of the face fit": landmarks && `${(100 * landmarks).toFixed(1)} %`,
    "Time taken": seconds && `${seconds.toFixed(1)} s`,
  };
  return Object.entries(rows)
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]);
}

function downloadButton(job, suffix, label, say) {
  const button = make("button", { type: "button", textContent: label });
  button.dataset.suffix = suffix;
  button.onclick = async () => {
    button.disabled = true;
    try {
      const address = URL.createObjectURL(await download(job.id, suffix));
      make("a", { href: address, download: `${job.name}.${suffix}` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  };
  return button;
}

/** A card for `job`; `on` has `choose(job)`, `refine(job, steps)`, `remove(job)` and `say(sentence)`. */
function card(job, chosen, on) {
  const item = document.getElementById("card").content.firstElementChild.cloneNode(true);
  const busy = job.state === "queued" || job.state === "running";
  item.classList.add(job.state);
  item.classList.toggle("chosen", chosen);
  item.classList.toggle("ready", job.version > 0);
  item.style.setProperty("--done", job.progress);
  item.querySelector("b").textContent = job.name;
  item.querySelector("small").textContent = STATES[job.state] ?? `${percent(job.progress)}, ${job.stage}`;
  const head = item.querySelector(".head");
  head.ariaCurrent = String(chosen);
  head.onclick = () => on.choose(job);
  const picture = job.version ? posterAddress(job) : photoAddress(job);
  if (picture) item.querySelector("img").src = picture;
  item.querySelector(".note").textContent = job.figures.note ?? "";
  item.querySelector("dl").append(...figures(job.figures));
  item.querySelector(".downloads").append(...Object.entries(DOWNLOADS).map(([suffix, label]) => downloadButton(job, suffix, label, on.say)));
  for (const button of item.querySelectorAll("[data-refine]")) {
    button.disabled = busy;
    button.onclick = () => on.refine(job, Number(button.dataset.refine));
  }
  item.querySelector("[data-do=delete]").onclick = () => on.remove(job);
  return item;
}

let drawn = "";

/** Draw the shelf, if anything on it changed. */
export function drawShelf(list, jobs, chosen, on) {
  const key = JSON.stringify([jobs, chosen?.id]);
  if (key === drawn) return;
  drawn = key;
  list.replaceChildren(...jobs.map((job) => card(job, job.id === chosen?.id, on)));
}

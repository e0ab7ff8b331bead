/** The studio: a place to drop photos, a shelf of avatars, and the chosen one on stage in the player's own page. */

import * as api from "./api.js";
import { drawShelf } from "./shelf.js";

const $ = (id) => document.getElementById(id);
const BUSY = ["queued", "running"];

let jobs = [];
let chosenId = location.hash.slice(1) || null;
let toastTimer = 0;

const chosen = () => jobs.find((job) => job.id === chosenId) ?? null;

function say(sentence) {
  $("toast").textContent = sentence;
  $("toast").classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("shown"), 7000);
}

/** Do something with the server, then show how things stand; a failure becomes a sentence on the page. */
async function attempt(work) {
  let result = null;
  try {
    result = await work();
    jobs = await api.jobs();
  } catch (error) {
    say(error.message);
  }
  draw();
  return result;
}

function choose(job) {
  chosenId = job?.id ?? null;
  // The address keeps the choice, so that a reload comes back to it.
  history.replaceState(null, "", chosenId ? `#${chosenId}` : location.pathname);
  draw();
}

const actions = {
  choose,
  say,
  refine: (job, steps) => attempt(() => api.refine(job.id, steps, job.face)),
  cancel: (job) => attempt(() => api.cancel(job.id)),
  again: (job, face = job.face) => attempt(() => api.refine(job.id, job.refine, face)),
  remove: async (job) => {
    if (!confirm(`Delete ${job.name}, its photo and everything made from it?`)) return;
    await attempt(() => api.remove(job.id));
    choose(null);
  },
};

async function take(files) {
  const invitation = $("invitation").textContent;
  const ids = [];
  choose(null);
  for (const file of files) {
    const id = await attempt(() =>
      api.upload(file, (done) => ($("invitation").textContent = `Reading ${file.name} … ${Math.round(done * 100)} %`)),
    );
    if (id) ids.push(id);
  }
  $("invitation").textContent = invitation;
  if (!ids.length) return;
  const option = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const job = await attempt(() => api.create(ids, { gaussians: option("size"), refine: Number(option("refine")) }));
  if (job) choose(job);
}

function draw() {
  const job = chosen();
  const busy = job && BUSY.includes(job.state);
  const ready = job && job.version > 0;
  $("side").hidden = !jobs.length;
  $("start").hidden = Boolean(job);
  $("stage").hidden = !ready;
  $("working").hidden = !(busy && !ready);
  $("trouble").hidden = !job || busy || ready;
  drawShelf($("shelf"), jobs, job, actions);
  const address = ready ? `page/index.html?src=${encodeURIComponent(`../${api.avatarAddress(job)}`)}` : "about:blank";
  // Replacing the location, not the attribute, keeps the frame out of the browser's history.
  if ($("stage").dataset.address !== address) $("stage").contentWindow.location.replace(new URL(address, location.href));
  $("stage").dataset.address = address;
  if (busy && !ready) drawWork(job);
  if (job && !busy && !ready) drawTrouble(job);
}

function drawWork(job) {
  const picture = document.querySelector("#working img");
  const address = api.photoAddress(job);
  picture.hidden = !address;
  if (address && !picture.src.endsWith(address)) picture.src = address;
  $("working").style.setProperty("--done", job.progress);
  document.querySelector("#working .bar").ariaValueNow = String(Math.round(job.progress * 100));
  const waiting = job.state === "queued" && jobs.some((other) => other.state === "running");
  const stage = waiting ? "waiting for the avatar before it" : job.stage;
  document.querySelector("#working p").textContent = stage.charAt(0).toUpperCase() + stage.slice(1);
}

function drawTrouble(job) {
  const faces = Number(/\b(\d+) faces\b/.exec(job.message)?.[1] ?? 0);
  const message = faces ? `${job.message.split(";")[0]}.` : job.message;
  document.querySelector("#trouble p").textContent = job.state === "cancelled" ? "Cancelled." : message;
  $("faces").hidden = !faces;
  if ($("faces").dataset.job === job.id) return;
  $("faces").dataset.job = job.id;
  for (const old of $("faces").querySelectorAll("button")) old.remove();
  for (let face = 1; face <= Math.min(faces, 9); face++) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: String(face) });
    button.onclick = () => actions.again(job, face);
    $("faces").append(button);
  }
}

/** Tell when a job ends badly that has an avatar from before: the stage keeps showing that one. */
function tellEnds(before) {
  for (const job of jobs) {
    const earlier = before.find((other) => other.id === job.id);
    if (earlier && BUSY.includes(earlier.state) && job.state === "failed" && job.version) say(job.message);
  }
}

async function poll() {
  const before = jobs;
  await attempt(() => null);
  tellEnds(before);
  if (chosenId && !chosen()) choose(null);
  setTimeout(poll, jobs.some((job) => BUSY.includes(job.state)) ? 400 : 3000);
}

$("new").onclick = () => choose(null);
for (const [name, action] of Object.entries({ cancel: actions.cancel, again: actions.again, delete: actions.remove }))
  for (const button of document.querySelectorAll(`main [data-do=${name}]`)) button.onclick = () => action(chosen());
$("files").onchange = ({ target }) => {
  if (target.files.length) take([...target.files]);
  target.value = "";
};

let inside = 0;
const dragging = (change) => document.body.classList.toggle("dragging", (inside = Math.max(0, inside + change)) > 0);
addEventListener("dragenter", () => dragging(1));
addEventListener("dragleave", () => dragging(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(-inside);
  if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
});

poll();

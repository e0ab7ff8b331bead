/** The page around one avatar: bar, panel, scrubber, webcam, files dropped on it. */

import { Player, TAKES, readMotion, writeMotion } from "../player/player.js";
import { FACE_MESH, loadFaceMesh } from "../player/trackers.js";
import { Webcam } from "../player/webcam.js";
import { embedded, embeddedFiles } from "./embedded.js";
import { icon } from "./icons.js";
import { fillPanel, withoutNetwork } from "./panel.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const SOUND = /\.(wav|mp3|ogg|m4a|flac|aac|opus|weba)$/i;
let player = null;
let panel = null;
let film = null;
let kept = null;

const press = (button, on) => (button.ariaPressed = String(on));
const pressed = (button) => button.ariaPressed === "true";
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

let noticeTimer = 0;
function notice(text, { bad = false, seconds = bad ? 8 : 4 } = {}) {
  clearTimeout(noticeTimer);
  $("notice").hidden = !text;
  $("notice").className = bad ? "bad" : "";
  $("notice").textContent = text;
  if (text && seconds) noticeTimer = setTimeout(() => ($("notice").hidden = true), seconds * 1000);
}

/** Run what a button does; its errors are sentences for the reader. */
const tell =
  (action) =>
  async (...args) => {
    try {
      await action(...args);
    } catch (error) {
      notice(error.message, { bad: true });
    }
  };

async function open(source, file, given = null) {
  $("welcome").hidden = true;
  player ??= new Player($("stage"), { adaptive: !query.has("sharp") });
  await player.load(source);
  globalThis.player = player;
  const title = given ?? player.avatar.info?.title ?? file;
  document.title = $("title").textContent = title;
  $("about").textContent = [player.avatar.method, `${player.avatar.count.toLocaleString("en")} Gaussians`]
    .filter(Boolean)
    .join(" · ");
  panel = fillPanel(player, $);
  document.body.classList.remove("loading");
  if (player.avatar.ignored.length) notice(withoutNetwork(player.avatar));
}

function play(motion, options) {
  const playback = player.play(motion, { loop: $("loop").checked, ...options });
  showPlayback(playback);
}

function showPlayback(playback) {
  $("scrubber").hidden = false;
  const name = playback.motion.name;
  for (const button of $("takes").children) press(button, button.dataset.take === name);
  playback.finished.then(() => {
    if (player.playback && player.playback !== playback) return;
    $("scrubber").hidden = true;
    for (const button of $("takes").children) press(button, false);
  });
}

function eachFrame() {
  const playback = player?.playback;
  if (playback) {
    const at = Math.min(playback.time, playback.length);
    if (document.activeElement !== $("time") || !playback.paused)
      $("time").value = playback.length ? at / playback.length : 0;
    $("time").style.setProperty("--at", `${$("time").value * 100}%`);
    $("clock").textContent = `${clock(at)} / ${clock(playback.length)}`;
    showPaused(playback.paused);
  }
  if (panel && !$("panel").hidden) panel.sync();
  requestAnimationFrame(eachFrame);
}

function showPaused(paused) {
  const shown = paused ? "play" : "pause";
  if ($("pause").dataset.shown === shown) return;
  $("pause").dataset.shown = shown;
  $("pause").ariaLabel = paused ? "Play" : "Pause";
  $("pause").innerHTML = icon(shown);
}

/** What was dropped or chosen: an avatar, a motion, sound, or sound with its visemes. */
async function take(files) {
  const avatar = files.find((f) => /\.avatar$/i.test(f.name));
  if (avatar) return open(avatar, avatar.name.replace(/\.avatar$/i, ""));
  if (!player?.avatar) throw new Error("Open an avatar first.");
  const sound = files.find((f) => SOUND.test(f.name) || f.type.startsWith("audio/"));
  const text = files.find((f) => /\.(csv|json)$/i.test(f.name));
  if (!sound && !text) throw new Error(`${files[0].name} is neither an avatar, a motion (CSV, JSON) nor sound.`);
  const audio = sound ? await sound.arrayBuffer() : null;
  if (text) {
    const content = await text.text();
    const motion = readMotion(content, text.name);
    if (!sound || !/"visemes"/.test(content)) return play(motion);
    return showPlayback(await player.speak({ ...JSON.parse(content), audio }));
  }
  return showPlayback(await player.speak({ audio }));
}

async function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const stem = () => (document.title || "avatar").replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase();

async function startWebcam() {
  let files = await embeddedFiles();
  if (!files && !globalThis.FaceMesh) {
    $("consent").showModal();
    await new Promise((resolve) => $("consent").addEventListener("close", resolve, { once: true }));
    if ($("consent").returnValue !== "yes") return;
    files = FACE_MESH;
  }
  press($("camera"), true);
  notice("Starting the face tracker …", { seconds: 0 });
  try {
    const tracker = await loadFaceMesh(files ?? FACE_MESH);
    const webcam = await Webcam.start(tracker, {
      mirror: $("mirror").checked,
      video: $("webcam").querySelector("video"),
    });
    const says = {
      calibrating: "Look straight ahead with a calm face",
      following: "Following you",
      lost: "Where did you go?",
    };
    const show = () => ($("webcam").querySelector("figcaption").textContent = says[webcam.state]);
    webcam.addEventListener("state", show);
    show();
    $("webcam").hidden = false;
    player.stop();
    player.follow(webcam);
    notice("");
  } catch (error) {
    press($("camera"), false);
    throw error;
  }
}

function stopWebcam() {
  player.follow(null);
  $("webcam").hidden = true;
  press($("camera"), false);
}

function wire() {
  for (const element of document.querySelectorAll("[data-icon]")) element.innerHTML = icon(element.dataset.icon);
  for (const name of Object.keys(TAKES)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.dataset.take = name;
    button.onclick = tell(() => (pressed(button) ? player.stop() : play(name)));
    $("takes").append(button);
  }
  const idleLife = () => player.idle;
  let resting = null;
  $("idle").onclick = () => {
    const on = !pressed($("idle"));
    press($("idle"), on);
    if (!on) resting = idleLife();
    player.idle = on ? resting : null;
  };
  $("gaze").onclick = () => {
    const on = !pressed($("gaze"));
    press($("gaze"), on);
    player.lookAt(on ? "camera" : null);
  };
  $("camera").onclick = tell(() => (pressed($("camera")) ? stopWebcam() : startWebcam()));
  $("keep").onclick = () => {
    press($("keep"), !kept);
    $("keep").textContent = kept ? "Record take" : "Stop and save";
    if (!kept) {
      kept = player.recordTake();
      return;
    }
    save(new Blob([writeMotion(kept.stop())], { type: "application/json" }), `${stem()}-take.json`);
    kept = null;
  };
  $("calibrate").onclick = () => player.webcam?.calibrate();
  $("mirror").onchange = ({ target }) => player.webcam && (player.webcam.mirror = target.checked);
  $("shot").onclick = tell(async () => save(await player.screenshot(), `${stem()}.png`));
  $("film").onclick = tell(async () => {
    if (film) {
      const done = film;
      film = null;
      press($("film"), false);
      const blob = await done.stop();
      await save(blob, `${stem()}.${blob.type.includes("mp4") ? "mp4" : "webm"}`);
    } else {
      film = player.record();
      press($("film"), true);
    }
  });
  $("home").onclick = () => player.camera.reset();
  const showPanel = (on) => {
    $("panel").hidden = !on;
    document.body.classList.toggle("beside", on);
    press($("sliders"), on);
  };
  $("sliders").onclick = () => showPanel($("panel").hidden);
  $("close").onclick = () => showPanel(false);
  for (const tab of document.querySelectorAll("[data-tab]")) {
    tab.onclick = () => {
      for (const other of document.querySelectorAll("[data-tab]")) other.ariaSelected = String(other === tab);
      for (const page of document.querySelectorAll("[data-page]"))
        page.hidden = page.dataset.page !== tab.dataset.tab;
    };
  }
  $("time").oninput = ({ target }) => player.playback?.seek(target.value * player.playback.length);
  $("pause").onclick = () => player.playback && (player.playback.paused = !player.playback.paused);
  $("loop").onchange = ({ target }) => player.playback && (player.playback.loop = target.checked);
  $("choose").onclick = () => $("file").click();
  $("file").onchange = tell(({ target }) => take([...target.files]));
  addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement || event.metaKey || event.ctrlKey) return;
    if (event.key === " " && player?.playback) $("pause").click();
    else if (event.key === "r") $("home").click();
    else if (event.key === "f") $("sliders").click();
  });

  let inside = 0;
  addEventListener("dragenter", () => ($("drop").hidden = ++inside === 0));
  addEventListener("dragleave", () => ($("drop").hidden = --inside <= 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    $("drop").hidden = true;
    if (event.dataTransfer.files.length) tell(take)([...event.dataTransfer.files]);
  });
}

wire();
requestAnimationFrame(eachFrame);
tell(async () => {
  const inline = await embedded("avatar");
  if (inline) await open(inline.buffer, inline.name, inline.name);
  else if (query.has("src"))
    await open(
      query.get("src"),
      query
        .get("src")
        .split("/")
        .pop()
        .replace(/\.avatar$/, ""),
    );
  else $("welcome").hidden = false;
  if (query.has("take")) play(query.get("take"), { loop: true });
})();

/** The player: one avatar in one canvas, alive. */

import { ARKIT, eyeRotations, lookWeights } from "./arkit.js";
import { decodeAudio, startAudio } from "./audio.js";
import { OrbitCamera } from "./camera.js";
import { parseAvatar } from "./format.js";
import { GraphicsError, Renderer } from "./gl.js";
import { Idle } from "./idle.js";
import { clamp, smoothing } from "./math.js";
import { Playback, motionOfFrames } from "./motion.js";
import { readMotion } from "./motion-files.js";
import { recordCanvas } from "./record.js";
import { jointTransforms, meansRig } from "./rig.js";
import { spawnSortWorker } from "./spawn-worker.js";
import { TAKES } from "./takes.js";
import { motionOfAudio, motionOfVisemes } from "./visemes.js";

export { ARKIT, eyeRotations, readMotion, TAKES };

/**
 * Shows and animates an avatar.
 *
 * Weights and joint rotations of all layers add up: what `setWeights` and `setPose` hold, the playing motion, the
 * webcam, the gaze and the idle life. Events: `load`, `frame`, `contextlost`, `contextrestored`.
 */
export class Player extends EventTarget {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{idle?: boolean, interactive?: boolean, maxPixelRatio?: number, resolution?: number, adaptive?: boolean}}
   *   options `resolution` scales the picture inside the canvas; `adaptive` lowers it where frames come slowly
   * @throws {GraphicsError} without WebGL2
   */
  constructor(canvas, { idle = true, interactive = true, maxPixelRatio = 2, resolution = 1, adaptive = false } = {}) {
    super();
    Object.assign(this, { canvas, maxPixelRatio, resolution, adaptive });
    this.gl = canvas.getContext("webgl2", { alpha: true, premultipliedAlpha: true, antialias: false, depth: false });
    if (!this.gl) throw new GraphicsError("This browser has no WebGL2; update it or switch hardware acceleration on.");
    this.interactive = interactive;
    this.idle = idle ? new Idle() : null;
    this.showSeen = 0;
    this.rotations = {};
    this.root = null;
    this.webcam = null;
    this.#gaze = { target: null, yaw: 0, pitch: 0 };
    this.#listen();
  }

  /** Make a player and load an avatar into it: `await Player.create(canvas, "me.avatar")`. */
  static async create(canvas, source, options) {
    const player = new Player(canvas, options);
    try {
      await player.load(source);
    } catch (error) {
      player.dispose();
      throw error;
    }
    return player;
  }

  #end = new AbortController();
  #gaze;
  #renderer = null;
  #worker = null;
  #sort = { busy: false, wanted: false, sentPose: -1, spare: null, waiting: new Map(), id: 0 };
  #pose = { weights: null, transforms: null, version: 0 };
  #playback = null;
  #idleGain = 1;
  #last = 0;
  #dirty = true;
  #frozen = false;
  #visible = true;
  #request = 0;
  #audio = null;

  /**
   * Show another avatar.
   *
   * @param {string|URL|ArrayBuffer|Blob} source
   * @throws {AvatarError} when it is not a sound avatar
   */
  async load(source) {
    const buffer = await bytesOf(source, this.#end.signal);
    const avatar = parseAvatar(buffer);
    this.#renderer?.dispose();
    this.#worker?.terminate();
    this.avatar = avatar;
    this.expressions = avatar.expressions;
    this.weights = new Float32Array(avatar.expressions.length);
    Object.assign(this, { rotations: {}, root: null });
    this.indices = new Map(avatar.expressions.map((name, e) => [name, e]));
    this.camera = new OrbitCamera(avatar.view);
    if (this.interactive) this.#attachCamera();
    this.#pose = { weights: new Float32Array(avatar.expressions.length), transforms: jointTransforms(avatar), version: 0 };
    this.#sort = { busy: false, wanted: true, sentPose: -1, spare: null, waiting: new Map(), id: 0 };
    this.#renderer = new Renderer(this.gl, avatar);
    this.#worker = spawnSortWorker();
    this.#worker.onmessage = ({ data }) => this.#sorted(data);
    this.#worker.postMessage({ rig: meansRig(avatar) });
    this.#refresh();
    this.dispatchEvent(new Event("load"));
    if (!this.#request) this.#request = requestAnimationFrame((now) => this.#tick(now));
  }

  /** Bytes of textures on the card. */
  get textureBytes() {
    return this.#renderer?.textureBytes ?? 0;
  }

  /** The motion being played, or null. */
  get playback() {
    return this.#playback;
  }

  /** Hold weights by exact name, such as `{jawOpen: 0.5}`; others keep theirs. Unknown names are an error. */
  setWeights(weights) {
    for (const [name, value] of Object.entries(weights)) {
      const e = this.indices.get(name);
      if (e === undefined) throw new RangeError(`There is no expression named ${name}.`);
      if (!Number.isFinite(value)) throw new RangeError(`The weight of ${name} is not a number.`);
      this.weights[e] = value;
    }
    this.#dirty = true;
  }

  /** Held weights by name; with `live`, those of the frame on screen, all layers added. */
  getWeights({ live = false } = {}) {
    const from = live ? this.#pose.weights : this.weights;
    return Object.fromEntries(this.expressions.map((name, e) => [name, from[e]]));
  }

  /** Hold joint rotations, such as `{head: [0, 0.3, 0]}` in radians; joints the avatar lacks are ignored. */
  setPose(rotations, root = this.root) {
    Object.assign(this.rotations, rotations);
    this.root = root;
    this.#dirty = true;
  }

  /** Let go of all held weights and rotations. */
  reset() {
    this.weights.fill(0);
    this.rotations = {};
    this.root = null;
    this.#dirty = true;
  }

  /** Look at the `"camera"`, at a world point [x, y, z] in metres, or (null) nowhere in particular. */
  lookAt(target) {
    this.#gaze.target = target;
    this.#dirty = true;
  }

  /**
   * Play a motion: a name from `TAKES`, a motion object, or anything `readMotion` reads.
   *
   * @returns {Playback} with `seek`, `stop`, `paused`, `time`, `length`, `loop` and the promise `finished`
   */
  play(motion, options = {}) {
    this.stop();
    if (typeof motion === "string" && Object.hasOwn(TAKES, motion)) motion = TAKES[motion]();
    else if (!(motion.weights instanceof Float32Array)) motion = readMotion(motion);
    this.#playback = new Playback(motion, options);
    this.#dirty = true;
    return this.#playback;
  }

  /** Stop the motion or speech being played. */
  stop() {
    this.#playback?.stop();
    this.#playback = null;
  }

  /**
   * Say something, with TalkingHead's arguments: `audio` (AudioBuffer, bytes of a sound file, or chunks of 16-bit
   * PCM) and optionally `visemes`, `vtimes`, `vdurations` (ms); without visemes the lips follow the loudness.
   */
  async speak({ audio, visemes, vtimes, vdurations, sampleRate = 22050 }) {
    let clock = null;
    let sound = null;
    if (audio) {
      this.#audio ??= new AudioContext();
      // A browser that has not been touched yet never resumes; it must not leave the caller waiting.
      await Promise.race([this.#audio.resume(), new Promise((resolve) => setTimeout(resolve, 500))]);
      if (this.#audio.state !== "running") throw new Error("The browser plays sound only after a click; click and try again.");
      sound = await decodeAudio(this.#audio, audio, sampleRate);
    }
    const motion = visemes ? motionOfVisemes({ visemes, vtimes, vdurations }) : motionOfAudio(sound);
    this.stop();
    if (sound) clock = startAudio(this.#audio, sound);
    return this.play(motion, { audio: clock });
  }

  /** Follow an input that gives `{weights, rotations, gain}` each frame, such as a started webcam; null = none. */
  follow(input) {
    this.webcam?.stop?.();
    this.webcam = input;
    this.#dirty = true;
  }

  /** The picture as a PNG (or other) Blob, transparent where nothing is. */
  async screenshot(type = "image/png") {
    await this.settle();
    this.#draw();
    return new Promise((resolve) => this.canvas.toBlob(resolve, type));
  }

  /** Film the canvas: `{stop}`, whose promise gives a WebM (or MP4) Blob. */
  record(options) {
    return recordCanvas(this.canvas, options);
  }

  /** Note the live weights of each frame; `stop()` gives a motion that `play` takes. */
  recordTake() {
    const frames = [];
    const start = performance.now();
    const note = () => frames.push({ time: performance.now() - start, weights: this.getWeights({ live: true }), rotations: { ...this.liveRotations } });
    this.addEventListener("frame", note);
    return {
      stop: () => {
        this.removeEventListener("frame", note);
        const seconds = Math.max(0.001, (frames.at(-1)?.time ?? 0) / 1000);
        return motionOfFrames("take", Math.max(1, (frames.length - 1) / seconds), frames.length ? frames : [{ weights: { jawOpen: 0 } }]);
      },
    };
  }

  /** Draw what is held now, without any moving layer, in settled order, and give the pixels (premultiplied, top row first). */
  async still() {
    this.#frozen = true;
    this.#setPose(this.weights.slice(), { ...this.rotations });
    await this.settle();
    this.#renderer.deform(this.#pose.weights, this.#pose.transforms, this.showSeen);
    this.#draw();
    this.#frozen = false;
    const { drawingBufferWidth: width, drawingBufferHeight: height } = this.gl;
    const bottomUp = new Uint8ClampedArray(width * height * 4);
    this.gl.readPixels(0, 0, width, height, this.gl.RGBA, this.gl.UNSIGNED_BYTE, bottomUp);
    const data = new Uint8ClampedArray(bottomUp.length);
    for (let y = 0; y < height; y++) data.set(bottomUp.subarray(y * width * 4, (y + 1) * width * 4), (height - 1 - y) * width * 4);
    return { width, height, data };
  }

  /** What pass 1 last wrote, for tests. */
  readDeformed() {
    return this.#renderer.readDeformed();
  }

  /** Wait until the order on the card belongs to the pose and camera of now. */
  async settle() {
    const id = this.#requestSort(true);
    await new Promise((resolve) => this.#sort.waiting.set(id, resolve));
  }

  /** The Gaussians' indices in drawing order, farthest first. */
  get order() {
    return this.#renderer.orderData.subarray(0, this.#renderer.ordered);
  }

  /** Stop everything and free the card. The canvas cannot be drawn on again. */
  dispose() {
    this.#end.abort();
    cancelAnimationFrame(this.#request);
    this.stop();
    this.follow(null);
    this.#audio?.close();
    this.#worker?.terminate();
    this.#renderer?.dispose();
    this.#renderer = null;
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #listen() {
    const { signal } = this.#end;
    const { canvas } = this;
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.#renderer = null;
      this.dispatchEvent(new Event("contextlost"));
    }, { signal });
    canvas.addEventListener("webglcontextrestored", () => {
      if (!this.avatar) return;
      this.#renderer = new Renderer(this.gl, this.avatar);
      this.#sort.sentPose = -1;
      this.#refresh();
      this.dispatchEvent(new Event("contextrestored"));
    }, { signal });
    const sizes = new ResizeObserver(() => (this.#dirty = true));
    const seen = new IntersectionObserver(([entry]) => (this.#visible = entry.isIntersecting));
    sizes.observe(canvas);
    seen.observe(canvas);
    signal.addEventListener("abort", () => [sizes, seen].forEach((o) => o.disconnect()));
  }

  #attachCamera() {
    this.#cameraEnd?.abort();
    this.#cameraEnd = new AbortController();
    this.#end.signal.addEventListener("abort", () => this.#cameraEnd.abort());
    this.camera.attach(this.canvas, this.#cameraEnd.signal, () => (this.#dirty = true));
  }

  #cameraEnd = null;

  #refresh() {
    this.#dirty = true;
    this.#pose.version++;
    this.#requestSort();
  }

  #fit() {
    const { canvas } = this;
    if (!canvas.clientWidth || this.camera.fixed) return false;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, this.maxPixelRatio) * this.resolution;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width === width && canvas.height === height) return false;
    Object.assign(canvas, { width, height });
    return true;
  }

  /** Fewer pixels where frames take over 40 ms for a while, more again where they take under 20. */
  #adapt(dt) {
    const pace = this.#pace;
    pace.mean += (dt - pace.mean) * 0.05;
    if (++pace.frames < 40) return;
    const scale = clamp(this.resolution * (pace.mean > 0.04 ? 0.8 : pace.mean < 0.02 ? 1.1 : 1), 0.4, 1);
    if (scale !== this.resolution) this.#pace = { mean: 0.03, frames: 0 };
    this.resolution = scale;
  }

  #pace = { mean: 0.03, frames: 0 };

  #tick(now) {
    this.#request = requestAnimationFrame((next) => this.#tick(next));
    if (!this.#renderer || !this.#visible || this.#frozen) return;
    const dt = clamp((now - this.#last) / 1000, 0, 0.1);
    this.#last = now;
    if (this.adaptive) this.#adapt(dt);
    const moved = this.camera.update(dt);
    const resized = this.#fit();
    const posed = this.#animate(dt);
    if (!(posed || moved || resized || this.#dirty) || !this.#renderer.ordered) return;
    this.#dirty = false;
    if (posed || moved || resized) this.#requestSort();
    this.#renderer.deform(this.#pose.weights, this.#pose.transforms, this.showSeen);
    this.#draw();
    this.dispatchEvent(new Event("frame"));
  }

  /** Add up the layers; true if the pose changed. */
  #animate(dt) {
    const layers = [];
    const played = this.#playback?.update(dt);
    if (this.#playback?.done) this.#playback = null;
    if (played) layers.push(played);
    const seen = this.webcam?.update(dt);
    if (seen) layers.push(seen);
    const busy = (played?.gain ?? 0) > 0.5 || (seen?.gain ?? 0) > 0.5;
    this.#idleGain += ((busy || !this.idle ? 0 : 1) - this.#idleGain) * smoothing(dt, 0.25);
    if (this.idle) layers.push({ ...this.idle.update(dt), gain: this.#idleGain });
    const gaze = this.#look(dt);
    if (gaze) layers.push(gaze);

    const weights = this.weights.slice();
    const rotations = Object.fromEntries(Object.entries(this.rotations).map(([name, v]) => [name, [...v]]));
    for (const { weights: added, rotations: turns = {}, gain = 1 } of layers) {
      for (const [name, w] of Object.entries(added)) {
        const e = this.indices.get(name);
        if (e === undefined || w === 0) continue;
        // Two layers may both smile; the sum must not exceed what either may do alone.
        const limit = Math.max(1, this.weights[e], w);
        weights[e] = Math.min(limit, weights[e] + gain * w);
      }
      for (const [name, v] of Object.entries(turns)) {
        const joint = name === "head" && !this.avatar.joints.includes("head") ? "neck" : name;
        const sum = (rotations[joint] ??= [0, 0, 0]);
        for (let c = 0; c < 3; c++) sum[c] += gain * v[c];
      }
    }
    return this.#setPose(weights, rotations);
  }

  #setPose(weights, rotations) {
    const transforms = jointTransforms(this.avatar, rotations, this.root);
    const same = (a, b) => a.every((x, i) => x === b[i]);
    if (same(weights, this.#pose.weights) && same(transforms, this.#pose.transforms)) return false;
    this.#pose = { weights, transforms, version: this.#pose.version + 1 };
    this.liveRotations = rotations;
    return true;
  }

  #look(dt) {
    const gaze = this.#gaze;
    const eye = this.avatar.joints.indexOf("left_eye");
    const other = this.avatar.joints.indexOf("right_eye");
    let yaw = 0;
    let pitch = 0;
    if (gaze.target && eye >= 0 && other >= 0) {
      const goal = gaze.target === "camera" ? this.camera.position : gaze.target;
      const rest = this.avatar.jointRest;
      const m = this.#pose.transforms.subarray(this.avatar.parents[eye] * 16);
      const away = [0, 1, 2].map((c) => goal[c] - m[c * 4 + 3]);
      // Into the resting head: the transpose of a rotation undoes it.
      const d = [0, 1, 2].map((c) => m[c] * away[0] + m[4 + c] * away[1] + m[8 + c] * away[2] - (rest[eye * 3 + c] + rest[other * 3 + c]) / 2);
      yaw = clamp(Math.atan2(d[0], d[2]), -0.55, 0.55);
      pitch = clamp(-Math.atan2(d[1], Math.hypot(d[0], d[2])), -0.35, 0.35);
    } else if (Math.abs(gaze.yaw) + Math.abs(gaze.pitch) < 1e-4) {
      return null;
    }
    const t = smoothing(dt, 0.08);
    gaze.yaw += (yaw - gaze.yaw) * t;
    gaze.pitch += (pitch - gaze.pitch) * t;
    const turn = [gaze.pitch, gaze.yaw, 0];
    return { weights: lookWeights(gaze.yaw, gaze.pitch), rotations: { left_eye: turn, right_eye: turn } };
  }

  #draw() {
    this.#renderer.draw(this.camera.matrices(this.canvas.width, this.canvas.height));
  }

  /** Ask the worker for an order; while it works, remember that another is wanted. Gives the id to wait for. */
  #requestSort(always = false) {
    const sort = this.#sort;
    if (sort.busy) {
      sort.wanted = true;
      if (!always) return sort.id;
      return sort.id + 1;
    }
    const { viewmat } = this.camera.matrices(this.canvas.width, this.canvas.height);
    const { weights, transforms, version } = this.#pose;
    const moved = version !== sort.sentPose;
    const buffer = sort.spare ?? new ArrayBuffer(this.avatar.count * 4);
    Object.assign(sort, { busy: true, wanted: false, sentPose: version, spare: null, id: sort.id + 1 });
    const message = { id: sort.id, view: viewmat.slice(8, 12), buffer };
    this.#worker.postMessage(moved ? { ...message, weights, transforms } : message, [buffer]);
    return sort.id;
  }

  #sorted({ id, order, ms }) {
    const sort = this.#sort;
    this.sortMilliseconds = ms;
    this.#renderer?.setOrder(order);
    sort.spare = order.buffer;
    sort.busy = false;
    this.#dirty = true;
    sort.waiting.get(id)?.();
    sort.waiting.delete(id);
    if (sort.wanted) this.#requestSort();
  }
}

async function bytesOf(source, signal) {
  if (source instanceof ArrayBuffer) return source;
  if (source instanceof Blob) return source.arrayBuffer();
  const response = await fetch(source, { signal });
  if (!response.ok) throw new Error(`Cannot fetch ${source} (${response.status}).`);
  return response.arrayBuffer();
}

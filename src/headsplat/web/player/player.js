/** The player: one avatar in one canvas, alive. */

import { ARKIT, eyeRotations } from "./arkit.js";
import { decodeAudio, startAudio } from "./audio.js";
import { OrbitCamera } from "./camera.js";
import { parseAvatar } from "./format.js";
import { Gaze } from "./gaze.js";
import { GraphicsError, Renderer } from "./gl.js";
import { Idle } from "./idle.js";
import { addLayers } from "./layers.js";
import { clamp, smoothing } from "./math.js";
import { Playback } from "./motion.js";
import { readMotion, writeMotion } from "./motion-files.js";
import { DrawingOrder } from "./order.js";
import { recordCanvas, recordFrames } from "./record.js";
import { jointTransforms } from "./rig.js";
import { TAKES } from "./takes.js";
import { motionOfAudio, motionOfVisemes } from "./visemes.js";

export { ARKIT, eyeRotations, readMotion, TAKES, writeMotion };

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
  constructor(
    canvas,
    { idle = true, interactive = true, maxPixelRatio = 2, resolution = 1, adaptive = false } = {},
  ) {
    super();
    Object.assign(this, { canvas, maxPixelRatio, resolution, adaptive });
    this.gl = canvas.getContext("webgl2", {
      alpha: true,
      premultipliedAlpha: true,
      antialias: false,
      depth: false,
    });
    if (!this.gl)
      throw new GraphicsError("This browser has no WebGL2; update it or switch hardware acceleration on.");
    this.interactive = interactive;
    this.idle = idle ? new Idle() : null;
    this.showSeen = 0;
    this.rotations = {};
    this.root = null;
    this.webcam = null;
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
  #gaze = new Gaze();
  #renderer = null;
  #order = null;
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
    this.#order?.dispose();
    this.avatar = avatar;
    this.expressions = avatar.expressions;
    this.weights = new Float32Array(avatar.expressions.length);
    Object.assign(this, { rotations: {}, root: null });
    this.indices = new Map(avatar.expressions.map((name, e) => [name, e]));
    this.camera = new OrbitCamera(avatar.view);
    if (this.interactive) this.#attachCamera();
    this.#pose = {
      weights: new Float32Array(avatar.expressions.length),
      transforms: jointTransforms(avatar),
      version: 0,
    };
    this.#renderer = new Renderer(this.gl, avatar);
    this.#order = new DrawingOrder(
      avatar,
      () => ({
        pose: this.#pose,
        view: this.camera.matrices(this.canvas.width, this.canvas.height).viewmat.slice(8, 12),
      }),
      (order) => {
        this.#renderer?.setOrder(order);
        this.#dirty = true;
      },
    );
    this.#refresh();
    this.dispatchEvent(new Event("load"));
    if (!this.#request) this.#request = requestAnimationFrame((now) => this.#tick(now));
  }

  /** Bytes of textures on the card. */
  get textureBytes() {
    return this.#renderer?.textureBytes ?? 0;
  }

  /** What the last sort took. */
  get sortMilliseconds() {
    return this.#order?.milliseconds ?? 0;
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
      if (this.#audio.state !== "running")
        throw new Error("The browser plays sound only after a click; click and try again.");
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
    return recordFrames(this);
  }

  /**
   * Draw what is held now, without any moving layer, in settled order.
   *
   * @returns {Promise<{width: number, height: number, data: Uint8ClampedArray}>} premultiplied, top row first
   */
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
    for (let y = 0; y < height; y++)
      data.set(bottomUp.subarray(y * width * 4, (y + 1) * width * 4), (height - 1 - y) * width * 4);
    return { width, height, data };
  }

  /** What pass 1 last wrote, for tests. */
  readDeformed() {
    return this.#renderer.readDeformed();
  }

  /** Wait until the order on the card belongs to the pose and camera of now. */
  settle() {
    return this.#order.settle();
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
    this.#order?.dispose();
    this.#renderer?.dispose();
    this.#renderer = null;
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #listen() {
    const { signal } = this.#end;
    const { canvas } = this;
    canvas.addEventListener(
      "webglcontextlost",
      (event) => {
        event.preventDefault();
        this.#renderer = null;
        this.dispatchEvent(new Event("contextlost"));
      },
      { signal },
    );
    canvas.addEventListener(
      "webglcontextrestored",
      () => {
        if (!this.avatar) return;
        this.#renderer = new Renderer(this.gl, this.avatar);
        this.#refresh();
        this.dispatchEvent(new Event("contextrestored"));
      },
      { signal },
    );
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
    this.#order.request();
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
    if (posed || moved || resized) this.#order.request();
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
    const gaze = this.#gaze.update(dt, this.avatar, this.#pose.transforms, this.camera.position);
    if (gaze) layers.push(gaze);
    const { weights, rotations } = addLayers(this.avatar, this.weights, this.rotations, layers);
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

  #draw() {
    this.#renderer.draw(this.camera.matrices(this.canvas.width, this.canvas.height));
  }
}

async function bytesOf(source, signal) {
  if (source instanceof ArrayBuffer) return source;
  if (source instanceof Blob) return source.arrayBuffer();
  const response = await fetch(source, { signal });
  if (!response.ok) throw new Error(`Cannot fetch ${source} (${response.status}).`);
  return response.arrayBuffer();
}

/** The reader's own face drives the avatar: camera → tracker → weights, smoothed, mirrored, faded when lost. */

import { eyeRotations, headTurn, otherSide } from "./arkit.js";
import { FaceReader } from "./face.js";
import { clamp, quatOfMatrix, smoothing, vectorOfQuat } from "./math.js";

/** Seconds: smoothing of weights and of turns; how long a face may be missing; fading out and in. */
const TAU_WEIGHTS = 0.05;
const TAU_TURNS = 0.09;
const LOST_AFTER = 0.4;
const FADE = 0.35;
const NEUTRAL_FRAMES = 12;

/** An input for `Player.follow`. Events: `state` ("calibrating", "following", "lost"). */
export class Webcam extends EventTarget {
  /**
   * Open the camera and start tracking.
   *
   * @param {{detect: Function, close: Function}} tracker from trackers.js
   * @param {{mirror?: boolean, video?: HTMLVideoElement}} options `mirror`: the avatar moves like a mirror image
   * @throws {Error} when there is no camera, or its use is refused; the message says so
   */
  static async start(tracker, { mirror = true, video = document.createElement("video") } = {}) {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { width: 640, height: 480, facingMode: "user" },
        audio: false,
      });
    } catch (error) {
      throw new Error(
        error.name === "NotAllowedError"
          ? "The camera was not allowed; allow it and try again."
          : "There is no camera that can be used.",
      );
    }
    Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    const webcam = new Webcam(tracker, video, mirror);
    webcam.#watch();
    return webcam;
  }

  constructor(tracker, video, mirror) {
    super();
    Object.assign(this, { tracker, video, mirror, state: "", gain: 0, frames: 0 });
    this.reader = new FaceReader();
    this.calibrate();
  }

  #running = true;
  #wanted = null;
  #weights = {};
  #rotations = {};
  #last = 0;
  #missingSince = Infinity;
  #neutral = null;

  /** Take the next half second as the neutral face. */
  calibrate() {
    this.reader.calibrate();
    this.#wanted = null;
    this.#neutral = { samples: [], weights: null, turn: null };
    this.#setState("calibrating");
  }

  /** Called by the player each frame. */
  update() {
    const now = performance.now() / 1000;
    // The true step: a slow tracker holds frames up for longer than the player's step admits.
    const dt = Math.min(1, now - this.#last);
    this.#last = now;
    const lost = now - this.#missingSince > LOST_AFTER;
    if (this.#wanted && this.state !== "calibrating") this.#setState(lost ? "lost" : "following");
    const goal = this.#wanted && !lost ? 1 : 0;
    this.gain = clamp(this.gain + (Math.sign(goal - this.gain) * dt) / FADE);
    if (this.#wanted) {
      const a = smoothing(dt, TAU_WEIGHTS);
      const b = smoothing(dt, TAU_TURNS);
      for (const [name, w] of Object.entries(this.#wanted.weights)) {
        // Blinks are over before a smoothed lid has closed.
        const t = name.startsWith("eyeBlink") ? smoothing(dt, 0.015) : a;
        this.#weights[name] = (this.#weights[name] ?? 0) + (w - (this.#weights[name] ?? 0)) * t;
      }
      for (const [name, v] of Object.entries(this.#wanted.rotations)) {
        const now = this.#rotations[name] ?? [0, 0, 0];
        this.#rotations[name] = now.map((x, i) => x + (v[i] - x) * b);
      }
    }
    return { weights: this.#weights, rotations: this.#rotations, gain: this.gain };
  }

  /** Close the camera and the tracker. */
  stop() {
    this.#running = false;
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
    this.tracker.close();
  }

  async #watch() {
    while (this.#running) {
      const seen = this.video.readyState >= 2 ? await this.tracker.detect(this.video).catch(() => null) : null;
      if (!this.#running) return;
      if (seen) this.#take(seen);
      else this.#missingSince = Math.min(this.#missingSince, performance.now() / 1000);
      // Wait for the next picture; a hidden page gets none.
      await new Promise((resolve) =>
        document.hidden ? setTimeout(resolve, 250) : requestAnimationFrame(resolve),
      );
    }
  }

  #take(seen) {
    this.frames++;
    this.#missingSince = Infinity;
    const read = seen.landmarks
      ? this.reader.read(seen.landmarks, this.video.videoWidth / this.video.videoHeight)
      : this.#fromWeights(seen);
    if (!read) return;
    if (this.state === "calibrating") this.#setState("following");
    this.#wanted = this.mirror ? mirrored(read) : read;
  }

  /** A tracker that gives weights itself: take its neutral away. */
  #fromWeights({ weights, matrix }) {
    const R = matrix ? [0, 4, 8, 1, 5, 9, 2, 6, 10].map((i) => matrix[i]) : [1, 0, 0, 0, 1, 0, 0, 0, 1];
    const turn = vectorOfQuat(quatOfMatrix(R));
    const neutral = this.#neutral;
    if (!neutral.weights) {
      neutral.samples.push({ weights, turn });
      if (neutral.samples.length < NEUTRAL_FRAMES) return null;
      const mean = (pick) => neutral.samples.reduce((s, x) => s + pick(x), 0) / neutral.samples.length;
      neutral.weights = Object.fromEntries(Object.keys(weights).map((n) => [n, mean((s) => s.weights[n])]));
      neutral.turn = turn.map((_, i) => mean((s) => s.turn[i]));
    }
    const own = Object.fromEntries(
      Object.entries(weights).map(([n, w]) => [
        n,
        clamp((w - neutral.weights[n]) / Math.max(0.1, 1 - neutral.weights[n])),
      ]),
    );
    return {
      weights: own,
      rotations: { ...headTurn(turn.map((v, i) => v - neutral.turn[i])), ...eyeRotations(own) },
    };
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

/** The same face as a mirror shows it. */
export function mirrored({ weights, rotations }) {
  return {
    weights: Object.fromEntries(Object.entries(weights).map(([name, w]) => [otherSide(name), w])),
    rotations: Object.fromEntries(
      Object.entries(rotations).map(([name, [x, y, z]]) => [otherSide(name), [x, -y, -z]]),
    ),
  };
}

/**
 * Motions over time, and one being played.
 *
 * A motion is `{name, fps, expressions, weights, joints, rotations}`: T × E weights and T × J × 3 rotation vectors
 * (radians), row after row in Float32Arrays.
 */

/** Two hours of speech or film; longer files are damaged, or meant to stop the page. */
const MOST_FRAMES = 432_000;

/** A motion that cannot be used; `message` is one sentence for the reader of the page. */
export class MotionError extends Error {}

/** Frames in `seconds`; throws a `MotionError` if they are too many to hold. */
export function framesIn(seconds, fps) {
  const count = Math.floor(seconds * fps + 1e-4) + 1;
  if (!(count <= MOST_FRAMES)) throw new MotionError("This motion lasts for more than two hours; cut it in parts.");
  return count;
}

/** Frames of a motion. */
export const frameCount = (motion) => Math.floor(motion.weights.length / motion.expressions.length);
/** Seconds from the first frame to the last. */
export const duration = (motion) => Math.max(0, frameCount(motion) - 1) / motion.fps;

/** Weights and rotations by name at `time` seconds, linearly between frames. */
export function sample(motion, time) {
  const last = frameCount(motion) - 1;
  const at = Math.min(Math.max(time * motion.fps, 0), last);
  const a = Math.floor(at);
  const b = Math.min(a + 1, last);
  const t = at - a;
  const between = (data, width, i) => data[a * width + i] * (1 - t) + data[b * width + i] * t;
  const weights = {};
  const rotations = {};
  motion.expressions.forEach((name, e) => (weights[name] = between(motion.weights, motion.expressions.length, e)));
  motion.joints.forEach((name, j) => {
    rotations[name] = [0, 1, 2].map((c) => between(motion.rotations, motion.joints.length * 3, j * 3 + c));
  });
  return { weights, rotations };
}

/**
 * Build a motion from frames by name; names that some frames lack count as zero there.
 *
 * @param {Array<{weights: Object<string, number>, rotations?: Object<string, number[]>}>} frames
 */
export function motionOfFrames(name, fps, frames) {
  const expressions = [...new Set(frames.flatMap((f) => Object.keys(f.weights)))];
  const joints = [...new Set(frames.flatMap((f) => Object.keys(f.rotations ?? {})))];
  const weights = new Float32Array(frames.length * expressions.length);
  const rotations = new Float32Array(frames.length * joints.length * 3);
  frames.forEach((frame, t) => {
    expressions.forEach((e, i) => (weights[t * expressions.length + i] = frame.weights[e] ?? 0));
    joints.forEach((j, i) => rotations.set(frame.rotations?.[j] ?? [0, 0, 0], (t * joints.length + i) * 3));
  });
  return { name, fps, expressions, weights, joints, rotations };
}

/** Put frames of uneven times (rising, seconds) on a steady clock. */
export function resample(name, times, frames, fps) {
  const motion = motionOfFrames(name, 1, frames);
  const count = framesIn(times[times.length - 1] - times[0], fps);
  const out = [];
  let i = 0;
  for (let frame = 0; frame < count; frame++) {
    const t = frame / fps;
    while (i + 2 < times.length && times[i + 1] - times[0] <= t) i++;
    const gap = times[i + 1] - times[i];
    out.push(sample(motion, i + (gap > 0 ? Math.min(1, (t - (times[i] - times[0])) / gap) : 0)));
  }
  return motionOfFrames(name, fps, out);
}

/** A motion being played: knows its clock, its loop and its fade in and out. */
export class Playback {
  /**
   * @param {object} motion
   * @param {{loop?: boolean, speed?: number, fade?: number, audio?: {time: () => number, stop: () => void}}} options
   *   with `audio`, its clock leads
   */
  constructor(motion, { loop = false, speed = 1, fade = 0.2, audio = null } = {}) {
    Object.assign(this, { motion, loop, speed, fade, audio, time: 0, paused: false, done: false });
    this.length = duration(motion);
    this.finished = new Promise((resolve) => (this.#resolve = resolve));
  }

  #resolve;

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.length);
  }

  stop() {
    if (this.done) return;
    this.done = true;
    this.audio?.stop();
    this.#resolve();
  }

  /** Weights and rotations now, `dt` seconds after the last call; null when over. */
  update(dt) {
    if (this.done) return null;
    if (this.audio) this.time = this.audio.time();
    else if (!this.paused) this.time += dt * this.speed;
    if (this.time > this.length + (this.loop ? 0 : this.fade)) {
      if (!this.loop || this.length === 0) {
        this.stop();
        return null;
      }
      this.time %= this.length;
    }
    const out = sample(this.motion, this.time);
    out.gain =
      this.loop || this.fade <= 0
        ? 1
        : Math.min(1, Math.max(0, (this.length + this.fade - this.time) / this.fade));
    return out;
  }
}

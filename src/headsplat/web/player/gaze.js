/** Eyes that follow the camera or a point. */

import { lookWeights } from "./arkit.js";
import { clamp, smoothing } from "./math.js";

/** How far the eyes go before the reader would have to turn the head, radians. */
const YAW_LIMIT = 0.55;
const PITCH_LIMIT = 0.35;

/** A layer of the player; `target` is "camera", a world point in metres, or null. */
export class Gaze {
  target = null;
  #yaw = 0;
  #pitch = 0;

  /**
   * @param {number} dt seconds
   * @param {object} avatar from `parseAvatar`
   * @param {Float32Array} transforms of the frame before, from `jointTransforms`
   * @param {number[]} camera world position
   * @returns {?{weights: object, rotations: object}} null while nothing is looked at
   */
  update(dt, avatar, transforms, camera) {
    const [yaw, pitch] = this.target
      ? anglesTo(this.target === "camera" ? camera : this.target, avatar, transforms)
      : [0, 0];
    if (!this.target && Math.abs(this.#yaw) + Math.abs(this.#pitch) < 1e-4) return null;
    const t = smoothing(dt, 0.08);
    this.#yaw += (yaw - this.#yaw) * t;
    this.#pitch += (pitch - this.#pitch) * t;
    const turn = [this.#pitch, this.#yaw, 0];
    return { weights: lookWeights(this.#yaw, this.#pitch), rotations: { left_eye: turn, right_eye: turn } };
  }
}

/** Yaw to the subject's left and pitch down that take the eyes to a world point, in the turned head's frame. */
function anglesTo(goal, { joints, parents, jointRest }, transforms) {
  const eyes = [joints.indexOf("left_eye"), joints.indexOf("right_eye")];
  if (eyes.includes(-1)) return [0, 0];
  const m = transforms.subarray(parents[eyes[0]] * 16);
  const away = [0, 1, 2].map((c) => goal[c] - m[c * 4 + 3]);
  // Into the resting head: the transpose of a rotation undoes it.
  const [x, y, z] = [0, 1, 2].map((c) => {
    const between = (jointRest[eyes[0] * 3 + c] + jointRest[eyes[1] * 3 + c]) / 2;
    return m[c] * away[0] + m[4 + c] * away[1] + m[8 + c] * away[2] - between;
  });
  return [
    clamp(Math.atan2(x, z), -YAW_LIMIT, YAW_LIMIT),
    clamp(-Math.atan2(y, Math.hypot(x, z)), -PITCH_LIMIT, PITCH_LIMIT),
  ];
}

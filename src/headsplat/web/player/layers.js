/** How held weights, motion, webcam, gaze and idle life come together. */

/**
 * Add layers to what is held.
 *
 * Two layers may both smile: a sum stays within 0..1, or within what one of them asks for alone.
 *
 * @param {{joints: string[], expressions: string[]}} avatar
 * @param {Float32Array} held E weights
 * @param {Object<string, number[]>} rotations held rotation vectors by joint
 * @param {Array<{weights: Object<string, number>, rotations?: Object<string, number[]>, gain?: number}>} layers
 * @returns {{weights: Float32Array, rotations: Object<string, number[]>}}
 */
export function addLayers(avatar, held, rotations, layers) {
  const weights = held.slice();
  const turns = Object.fromEntries(Object.entries(rotations).map(([name, v]) => [name, [...v]]));
  for (const { weights: added, rotations: turned = {}, gain = 1 } of layers) {
    avatar.expressions.forEach((name, e) => {
      const w = added[name];
      if (w) weights[e] = Math.min(Math.max(1, held[e], w), weights[e] + gain * w);
    });
    for (const [name, v] of Object.entries(turned)) {
      // Heads of one neck joint, such as FLAME's, turn there.
      const joint = name === "head" && !avatar.joints.includes("head") ? "neck" : name;
      const sum = (turns[joint] ??= [0, 0, 0]);
      for (let c = 0; c < 3; c++) sum[c] += gain * v[c];
    }
  }
  return { weights, rotations: turns };
}

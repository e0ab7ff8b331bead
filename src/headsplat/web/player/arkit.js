/** ARKit's 52 expression names, and the eye rotations that belong to the `eyeLook*` ones. */

export const ARKIT = [
  "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft", "eyeWideLeft",
  "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight",
  "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
  "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
  "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
  "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
  "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
  "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
];

/** Eye rotation at weight 1 of an `eyeLook*` expression, radians; as in Python's takes.py. */
const GAZE = 0.55;
/** How much of a head's turn the neck joint takes; as in Python's motion.py. */
const NECK_SHARE = 0.35;

/**
 * Eyeball rotations for `eyeLook*` weights, which by themselves move only the lids.
 *
 * @param {Object<string, number>} weights by name
 * @returns {Object<string, number[]>} rotation vectors of left_eye and right_eye, radians
 */
export function eyeRotations(weights) {
  const w = (name) => weights[name] ?? 0;
  const eye = (side, left) => [GAZE * (w(`eyeLookDown${side}`) - w(`eyeLookUp${side}`)), GAZE * left, 0];
  return {
    left_eye: eye("Left", w("eyeLookOutLeft") - w("eyeLookInLeft")),
    right_eye: eye("Right", w("eyeLookInRight") - w("eyeLookOutRight")),
  };
}

/** Lid weights for a gaze of `yaw` (to the subject's left) and `pitch` (down), radians. */
export function lookWeights(yaw, pitch) {
  const left = Math.max(0, yaw) / GAZE;
  const right = Math.max(0, -yaw) / GAZE;
  const down = Math.max(0, pitch) / GAZE;
  const up = Math.max(0, -pitch) / GAZE;
  return {
    eyeLookOutLeft: left, eyeLookInRight: left, eyeLookInLeft: right, eyeLookOutRight: right,
    eyeLookDownLeft: down, eyeLookDownRight: down, eyeLookUpLeft: up, eyeLookUpRight: up,
  };
}

/** A turn of the whole head (rotation vector), shared between neck and head. */
export const headTurn = (vector) => ({
  neck: vector.map((x) => x * NECK_SHARE),
  head: vector.map((x) => x * (1 - NECK_SHARE)),
});

/** The same name on the other side of the face. */
export const otherSide = (name) =>
  /Left$/.test(name) ? name.replace(/Left$/, "Right")
  : /Right$/.test(name) ? name.replace(/Right$/, "Left")
  : name.startsWith("left_") ? name.replace("left_", "right_")
  : name.startsWith("right_") ? name.replace("right_", "left_")
  : name;

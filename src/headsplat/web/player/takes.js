/** Built-in performances, each a few key poses: hello, speak, range. */

import { headTurn, lookWeights } from "./arkit.js";
import { blinkAt } from "./idle.js";
import { ease } from "./math.js";
import { motionOfFrames, sample } from "./motion.js";
import { motionOfVisemes } from "./visemes.js";

const FPS = 30;
const smile = (w) => ({ mouthSmileLeft: w, mouthSmileRight: w, cheekSquintLeft: w * 0.5, cheekSquintRight: w * 0.5 });
const brows = (w) => ({ browInnerUp: w, browOuterUpLeft: w * 0.8, browOuterUpRight: w * 0.8 });
const turn = (down, left, tilt = 0) => headTurn([down, left, tilt]);
const look = (yaw, pitch) => ({
  weights: lookWeights(yaw, pitch),
  rotations: { left_eye: [pitch, yaw, 0], right_eye: [pitch, yaw, 0] },
});

/** Frames that pass smoothly through key poses `[seconds, weights, rotations]`, with blinks at given times. */
function performance(name, keys, blinks = []) {
  const frames = [];
  const value = (a, b, t) => (a ?? 0) + ((b ?? 0) - (a ?? 0)) * t;
  for (let time = 0, k = 0; time <= keys[keys.length - 1][0] + 1e-6; time += 1 / FPS) {
    while (k + 2 < keys.length && keys[k + 1][0] <= time) k++;
    const [start, fromWeights = {}, fromRotations = {}] = keys[k];
    const [end, toWeights = {}, toRotations = {}] = keys[k + 1];
    const t = ease(Math.min(1, (time - start) / (end - start)));
    const weights = {};
    const rotations = {};
    for (const n of Object.keys({ ...fromWeights, ...toWeights })) weights[n] = value(fromWeights[n], toWeights[n], t);
    for (const n of Object.keys({ ...fromRotations, ...toRotations })) {
      rotations[n] = [0, 1, 2].map((c) => value(fromRotations[n]?.[c], toRotations[n]?.[c], t));
    }
    const lid = Math.max(0, ...blinks.map((b) => blinkAt(time - b)));
    for (const side of ["Left", "Right"]) weights[`eyeBlink${side}`] = Math.max(lid, weights[`eyeBlink${side}`] ?? 0);
    frames.push({ weights, rotations });
  }
  return motionOfFrames(name, FPS, frames);
}

/** A greeting: brows up, a nod, a smile. */
export function hello() {
  return performance("hello", [
    [0],
    [0.4, { ...brows(0.7), ...smile(0.2) }, turn(-0.1, 0.05)],
    [0.8, { ...smile(0.5), jawOpen: 0.18, mouthStretchLeft: 0.1, mouthStretchRight: 0.1 }, turn(0.1, 0.03, 0.04)],
    [1.05, { ...smile(0.35), jawOpen: 0.3, mouthFunnel: 0.35 }, turn(0.02, 0, 0.08)],
    [1.5, { ...smile(0.85), ...brows(0.2), eyeSquintLeft: 0.25, eyeSquintRight: 0.25 }, turn(-0.02, -0.06, 0.12)],
    [2.6, { ...smile(0.8), ...brows(0.25), eyeSquintLeft: 0.25, eyeSquintRight: 0.25 }, turn(0, -0.04, 0.09)],
    [3.4],
  ], [0.62, 2.3]);
}

/** A sentence without sound, with the head and brows that go with one. */
export function speak() {
  const text = "DD E kk aa PP U sil DD I SS RR O nn FF aa SS sil aa nn DD PP I kk CH aa RR E sil".split(" ");
  const lips = motionOfVisemes({ visemes: text, vtimes: text.map((_, i) => 150 + i * 135), vdurations: text.map(() => 135) });
  const length = 0.15 + text.length * 0.135 + 0.4;
  const body = performance("speak", [
    [0],
    [length * 0.2, { ...brows(0.45), ...smile(0.12) }, turn(0.05, 0.1, 0.03)],
    [length * 0.42, { browDownLeft: 0.15, browDownRight: 0.15, ...smile(0.05) }, turn(0.02, -0.08, -0.03)],
    [length * 0.7, { ...brows(0.35), ...smile(0.15) }, turn(0.07, 0.04, 0.05)],
    [length * 0.88, { ...smile(0.4), ...brows(0.1) }, turn(-0.03, 0.02, 0.06)],
    [length + 0.5],
  ], [length * 0.3, length * 0.66]);
  const frames = Array.from({ length: Math.floor((length + 0.5) * FPS) }, (_, t) => {
    const mouth = sample(lips, t / FPS).weights;
    const { weights, rotations } = sample(body, t / FPS);
    for (const [name, w] of Object.entries(mouth)) weights[name] = (weights[name] ?? 0) + w;
    return { weights, rotations };
  });
  return motionOfFrames("speak", FPS, frames);
}

/** Everything the face can do, one thing after the other: for checking an avatar. */
export function range() {
  const poses = [
    [{ jawOpen: 0.9 }], [{ ...smile(1) }], [{ mouthFrownLeft: 0.9, mouthFrownRight: 0.9 }], [{ mouthPucker: 1 }],
    [{ mouthFunnel: 0.9, jawOpen: 0.2 }], [{ mouthLeft: 0.8, jawLeft: 0.5 }], [{ mouthRight: 0.8, jawRight: 0.5 }],
    [{ mouthUpperUpLeft: 0.8, mouthUpperUpRight: 0.8, mouthLowerDownLeft: 0.8, mouthLowerDownRight: 0.8, jawOpen: 0.1 }],
    [{ mouthRollLower: 0.8, mouthRollUpper: 0.8 }], [{ cheekPuff: 1 }], [{ noseSneerLeft: 0.9, noseSneerRight: 0.9 }],
    [{ jawOpen: 0.5, tongueOut: 1 }], [{ ...brows(1), eyeWideLeft: 0.7, eyeWideRight: 0.7 }],
    [{ browDownLeft: 1, browDownRight: 1, eyeSquintLeft: 0.5, eyeSquintRight: 0.5 }],
    [{ eyeBlinkLeft: 1 }], [{ eyeBlinkRight: 1 }],
    ...[[0.4, 0], [-0.4, 0], [0, -0.25], [0, 0.25]].map(([yaw, pitch]) => [look(yaw, pitch).weights, look(yaw, pitch).rotations]),
    [{}, turn(0, 0.55)], [{}, turn(0, -0.55)], [{}, turn(0.35, 0)], [{}, turn(-0.35, 0)], [{}, turn(0, 0, 0.35)], [{}, turn(0, 0, -0.35)],
  ];
  const keys = poses.flatMap(([weights, rotations], i) => [[i * 0.9 + 0.4, weights, rotations], [i * 0.9 + 0.65, weights, rotations]]);
  return performance("range", [[0], ...keys, [poses.length * 0.9 + 0.3]]);
}

/** Built-in takes by name. */
export const TAKES = { hello, speak, range };

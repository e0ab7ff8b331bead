/**
 * From face landmarks to ARKit weights and a head pose.
 *
 * The head pose is the similarity that lays the free head's resting landmarks on the seen ones. In the head's own
 * frame, what moved since the neutral face is explained by expressions: a ridge-regularised least squares with
 * weights kept in 0..1.2. Lids and gaze are measured directly, because a fit shrinks them.
 */

import { headTurn, lookWeights } from "./arkit.js";
import { NAMES, POINTS, STABLE, STABLE_REST, STEP, TABLE } from "./face-basis.js";
import { clamp, matrixOfQuat, normalize, vectorOfQuat } from "./math.js";

/** How unwilling the fit is to use an expression (mm² of landmark error for weight 1): hard to see, hard to use. */
const RELUCTANCE = 30;
const RELUCTANT = [
  [/^mouthClose/, 6],
  [/Shrug/, 4],
  [/^mouth(Press|Roll|Dimple)/, 3],
  [/^mouthStretch/, 2],
  [/^(brow|jawOpen)/, 0.3],
  [/^(mouth|jaw)(Left|Right)$/, 2],
];
const NEUTRAL_FRAMES = 12;

/** Outer corner, inner corner, upper lid, lower lid, iris of each eye (MediaPipe's numbers, subject's sides). */
const EYES = {
  Left: { outer: 263, inner: 362, upper: [386, 385, 387], lower: [374, 380, 373], iris: 473 },
  Right: { outer: 33, inner: 133, upper: [159, 158, 160], lower: [145, 153, 144], iris: 468 },
};

const D = (() => {
  const bytes = Int8Array.from(atob(TABLE.replace(/\s/g, "")), (c) => c.charCodeAt(0));
  return NAMES.map((_, e) =>
    Float64Array.from(bytes.subarray(e * POINTS.length * 2, (e + 1) * POINTS.length * 2), (v) => v * STEP),
  );
})();
const NORMAL = D.map((a, i) =>
  D.map((b, j) => {
    const ridge = RELUCTANT.find(([pattern]) => pattern.test(NAMES[i]))?.[1] ?? 1;
    return a.reduce((sum, x, k) => sum + x * b[k], i === j ? RELUCTANCE * ridge : 0);
  }),
);

/**
 * The rotation, scale and shift that best take `from` to `to` (Horn 1987, by power iteration).
 *
 * @param {number[][]} from points
 * @param {number[][]} to points
 * @returns {{quat: number[], matrix: number[], scale: number, centreFrom: number[], centreTo: number[]}}
 */
export function fitSimilarity(from, to) {
  const mean = (points) => [0, 1, 2].map((c) => points.reduce((s, p) => s + p[c], 0) / points.length);
  const centreFrom = mean(from);
  const centreTo = mean(to);
  const S = new Float64Array(9);
  let sizeFrom = 0;
  let sizeTo = 0;
  from.forEach((p, n) => {
    for (let i = 0; i < 3; i++) {
      const a = p[i] - centreFrom[i];
      sizeFrom += a * a;
      sizeTo += (to[n][i] - centreTo[i]) ** 2;
      for (let j = 0; j < 3; j++) S[i * 3 + j] += a * (to[n][j] - centreTo[j]);
    }
  });
  const [xx, xy, xz, yx, yy, yz, zx, zy, zz] = S;
  const N = [
    [xx + yy + zz, yz - zy, zx - xz, xy - yx],
    [yz - zy, xx - yy - zz, xy + yx, zx + xz],
    [zx - xz, xy + yx, yy - xx - zz, yz + zy],
    [xy - yx, zx + xz, yz + zy, zz - xx - yy],
  ];
  // Shifted so that the wanted eigenvalue is the largest in size as well.
  const shift = Math.hypot(...N.flat());
  let quat = [1, 0.01, 0.01, 0.01];
  for (let k = 0; k < 200; k++)
    quat = normalize(N.map((row, i) => row.reduce((s, v, j) => s + v * quat[j], shift * quat[i])));
  return { quat, matrix: matrixOfQuat(quat), scale: Math.sqrt(sizeTo / (sizeFrom || 1)), centreFrom, centreTo };
}

/** Turns the landmarks of frame after frame into weights and rotations; neutral = the first frames it sees. */
export class FaceReader {
  constructor() {
    this.weights = new Float64Array(NAMES.length);
    this.calibrate();
  }

  /** Take the next frames as the neutral, forward-looking face. */
  calibrate() {
    this.samples = [];
    this.neutral = null;
    this.weights.fill(0);
  }

  /** 0..1: how much of the calibration is done. */
  get calibrated() {
    return this.neutral ? 1 : this.samples.length / NEUTRAL_FRAMES;
  }

  /**
   * @param {Array<{x: number, y: number, z: number}>} landmarks 468 or 478, of an unmirrored picture, 0..1
   * @param {number} aspect width / height of the picture
   * @returns {?{weights: Object<string, number>, rotations: Object<string, number[]>}} null while calibrating
   */
  read(landmarks, aspect) {
    const at = (i) => [landmarks[i].x * aspect, -landmarks[i].y, -landmarks[i].z * aspect];
    const rest = STABLE.map((_, i) => STABLE_REST.slice(i * 3, i * 3 + 3).map((v) => v / 10));
    const fit = fitSimilarity(rest, STABLE.map(at));
    const m = fit.matrix;
    /** Millimetres in the resting head's frame. */
    const local = (i) => {
      const d = at(i).map((v, c) => (v - fit.centreTo[c]) / fit.scale);
      return [0, 1, 2].map((c) => m[c] * d[0] + m[3 + c] * d[1] + m[6 + c] * d[2] + fit.centreFrom[c]);
    };
    const seen = {
      points: Float64Array.from(POINTS.flatMap((i) => local(i).slice(0, 2))),
      turn: vectorOfQuat(fit.quat),
      eyes: ["Left", "Right"].flatMap((side) => this.#eye(EYES[side], local, landmarks.length > 473)),
    };
    if (!this.neutral) {
      this.samples.push(seen);
      if (this.samples.length < NEUTRAL_FRAMES) return null;
      const mean = (pick) =>
        pick(seen).map((_, i) => this.samples.reduce((s, x) => s + pick(x)[i], 0) / this.samples.length);
      this.neutral = { points: mean((s) => s.points), turn: mean((s) => s.turn), eyes: mean((s) => s.eyes) };
    }
    return this.#explain(seen);
  }

  /** Lid gap over eye width, and the iris's place between the corners, sideways and up, in eye widths. */
  #eye({ outer, inner, upper, lower, iris }, local, hasIris) {
    const [a, b] = [local(outer), local(inner)];
    const width = Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    const gap = upper.reduce((s, u, i) => s + local(u)[1] - local(lower[i])[1], 0) / upper.length / width;
    if (!hasIris) return [gap, 0, 0];
    const c = local(iris);
    return [gap, (c[0] - (a[0] + b[0]) / 2) / width, (c[1] - (a[1] + b[1]) / 2) / width];
  }

  #explain({ points, turn, eyes }) {
    const { neutral } = this;
    const moved = points.map((v, i) => v - neutral.points[i]);
    const lid = [0, 3].map((i) => clamp((1 - eyes[i] / Math.max(0.08, neutral.eyes[i])) / 0.7));
    const fixed = { eyeBlinkLeft: lid[0], eyeBlinkRight: lid[1] };
    const b = D.map((row) => row.reduce((s, v, k) => s + v * moved[k], 0));
    const w = this.weights;
    for (let sweep = 0; sweep < 12; sweep++) {
      for (let e = 0; e < w.length; e++) {
        let slope = b[e];
        for (let k = 0; k < w.length; k++) slope -= NORMAL[e][k] * w[k];
        w[e] = fixed[NAMES[e]] ?? clamp(w[e] + slope / NORMAL[e][e], 0, 1.2);
      }
    }
    // An eyeball turns about 1.9 radians per eye width that the iris moves.
    const open = clamp(1 - Math.max(...lid) * 1.5);
    const yaw = clamp(((eyes[1] + eyes[4] - neutral.eyes[1] - neutral.eyes[4]) / 2) * 1.9, -0.6, 0.6) * open;
    const pitch = clamp(((neutral.eyes[2] + neutral.eyes[5] - eyes[2] - eyes[5]) / 2) * 1.9, -0.45, 0.45) * open;
    const gaze = [pitch, yaw, 0];
    return {
      weights: { ...Object.fromEntries(NAMES.map((name, e) => [name, w[e]])), ...lookWeights(yaw, pitch) },
      rotations: { ...headTurn(turn.map((v, i) => v - neutral.turn[i])), left_eye: gaze, right_eye: gaze },
    };
  }
}

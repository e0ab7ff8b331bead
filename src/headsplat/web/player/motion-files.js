/** Read motions: Live Link Face CSV, LAM's JSON, headsplat's JSON, TalkingHead's viseme tracks. Write LAM's. */

import { ARKIT, eyeRotations, headTurn } from "./arkit.js";
import { quatMultiply, quatOfVector, vectorOfQuat } from "./math.js";
import { MotionError, frameCount, motionOfFrames, resample } from "./motion.js";
import { motionOfVisemes } from "./visemes.js";

export { MotionError };

/**
 * Read a motion from text or parsed JSON, whichever of the known forms it is.
 *
 * @param {string|object} source a Live Link Face CSV; LAM's `{names, frames}`; headsplat's own JSON; or TalkingHead's
 *   `{visemes, vtimes, vdurations}`
 * @throws {MotionError}
 */
export function readMotion(source, name = "motion") {
  try {
    return read(source, name);
  } catch (error) {
    if (error instanceof MotionError) throw error;
    throw new MotionError("This motion is damaged; export it again.");
  }
}

function read(source, name) {
  if (typeof source === "string" && /^\uFEFF?\s*"?timecode/i.test(source)) return readCsv(source, name);
  let data = source;
  if (typeof source === "string") {
    try {
      data = JSON.parse(source);
    } catch {
      throw new MotionError(
        "This is neither an ARKit CSV nor a motion JSON; drop a Live Link Face take or a {names, frames} file.",
      );
    }
  }
  if (Array.isArray(data?.visemes)) return motionOfVisemes(data, name);
  const names = data?.names ?? data?.metadata?.blendshape_names;
  if (Array.isArray(names) && Array.isArray(data.frames)) return readLam(names, data, name);
  if (Array.isArray(data?.expressions) && data?.fps > 0) return readOwn(data, name);
  throw new MotionError(
    "This JSON holds no motion: expected {names, frames}, {expressions, weights, fps} or {visemes, vtimes, vdurations}.",
  );
}

/**
 * A motion as LAM's JSON, which `headsplat animate --motion` reads too; eye turns go along only as eyeLook weights.
 *
 * @returns {string}
 */
export function writeMotion({ expressions, weights, joints, rotations, fps, ...rest }) {
  const E = expressions.length;
  const frames = Array.from({ length: frameCount({ expressions, weights, ...rest }) }, (_, t) => {
    const turn = (name) => {
      const j = joints.indexOf(name);
      const at = (t * joints.length + j) * 3;
      return quatOfVector(j < 0 ? [0, 0, 0] : rotations.subarray(at, at + 3));
    };
    const head = vectorOfQuat(quatMultiply(turn("neck"), turn("head")));
    const round = (v) => Math.round(v * 1e5) / 1e5;
    return {
      weights: Array.from(weights.subarray(t * E, (t + 1) * E), round),
      time: round(t / fps),
      rotation: head.map(round),
    };
  });
  return JSON.stringify({ names: expressions, metadata: { fps, frame_count: frames.length }, frames });
}

const finite = (x) => (Number.isFinite(+x) ? +x : 0);

/** Eyes follow their `eyeLook*` weights wherever the source has no eye rotations of its own. */
const withEyes = ({ weights, rotations = {} }) => ({
  weights,
  rotations: { ...eyeRotations(weights), ...rotations },
});

const EXACT = new Map(ARKIT.map((name) => [name.toLowerCase(), name]));

function readLam(given, data, name) {
  const names = given.map((n) => EXACT.get(String(n).toLowerCase()) ?? String(n));
  const frames = data.frames.map(({ weights = [], rotation = [] }) => {
    // Four numbers are a quaternion xyzw, as three.js writes them; three a rotation vector.
    const r = (rotation ?? []).map(finite);
    const head = r.length === 4 ? vectorOfQuat([r[3], r[0], r[1], r[2]]) : r.length === 3 ? r : null;
    const named = Object.fromEntries(names.map((n, i) => [n, finite(weights[i])]));
    return withEyes({ weights: named, rotations: head ? headTurn(head) : {} });
  });
  if (!frames.length) throw new MotionError("This motion has no frames.");
  if (data.metadata?.fps > 0) return motionOfFrames(name, data.metadata.fps, frames);
  const times = data.frames.map((f) => f.time);
  const timed = times.every((t, i) => Number.isFinite(t) && (i === 0 || t > times[i - 1]));
  return timed && frames.length > 1 ? resample(name, times, frames, 30) : motionOfFrames(name, 30, frames);
}

function readOwn(data, name) {
  const E = data.expressions.length;
  const joints = data.joints ?? [];
  const weights = Float32Array.from((data.weights ?? []).flat(), finite);
  const rotations = Float32Array.from((data.rotations ?? []).flat(2), finite);
  const T = weights.length / E;
  if (!Number.isInteger(T) || T < 1 || rotations.length !== (joints.length ? T * joints.length * 3 : 0)) {
    throw new MotionError("The motion's weights and rotations do not match its names.");
  }
  return { name: data.name ?? name, fps: data.fps, expressions: data.expressions, weights, joints, rotations };
}

function readCsv(text, name) {
  const rows = text
    .replace(/^\uFEFF/, "")
    .trim()
    .split(/\r?\n/)
    .map((line) => line.split(",").map((c) => c.trim().replace(/^"|"$/g, "")));
  const header = rows.shift().map((c) => c.toLowerCase());
  const column = (n) => header.indexOf(n.toLowerCase());
  const known = ARKIT.map((n) => [n, column(n)]).filter(([, c]) => c >= 0);
  if (!known.length || !rows.length)
    throw new MotionError("The CSV has no ARKit columns; export the take from Live Link Face.");

  const clock = rows.map((r) => (r[column("timecode")] ?? "").split(":").map(finite));
  const ticks = Math.max(...clock.map((c) => c[3] ?? 0));
  const rate = rows.length < 60 ? 60 : ([24, 25, 30, 60, 120, 240].find((r) => ticks < r) ?? 60);
  const times = clock.map(([h, m = 0, s = 0, f = 0], i) =>
    clock[i].length < 4 ? h : h * 3600 + m * 60 + s + f / rate,
  );

  const angles = ["Yaw", "Pitch", "Roll"].map((a) => column(`head${a}`));
  const turns = rows.map((row) => angles.map((c) => (c >= 0 ? finite(row[c]) : 0)));
  // The unit is nowhere documented and differs between writers; no head turns by more than 1.6 radians.
  const unit = turns.flat().some((a) => Math.abs(a) >= 1.6) ? Math.PI / 180 : 1;
  const frames = rows.map((row, i) => {
    const [yaw, pitch, roll] = turns[i].map((a) => a * unit);
    const quat = [
      [0, yaw, 0],
      [pitch, 0, 0],
      [0, 0, roll],
    ]
      .map(quatOfVector)
      .reduce(quatMultiply);
    const weights = Object.fromEntries(known.map(([n, c]) => [n, finite(row[c])]));
    return withEyes({ weights, rotations: angles[0] >= 0 ? headTurn(vectorOfQuat(quat)) : {} });
  });
  let latest = -Infinity;
  const kept = times.map((_, i) => i).filter((i) => times[i] > latest + 1e-6 && ((latest = times[i]), true));
  return resample(
    name,
    kept.map((i) => times[i]),
    kept.map((i) => frames[i]),
    rate,
  );
}

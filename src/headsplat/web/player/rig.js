/**
 * The animation of docs/conventions.md on the CPU: blendshapes, then linear blend skinning.
 *
 * `jointTransforms` is what the graphics card is given each frame; `deformMeans` is what the sort worker runs;
 * `deform` is the readable definition that the shader is tested against.
 */

import { compose, decodeHalves, matrixOfQuat, quatMultiply, quatOfMatrix, quatOfVector } from "./math.js";

/**
 * Skinning transforms of every joint.
 *
 * @param {object} avatar from `parseAvatar`
 * @param {Object<string, number[]>} rotations joint name → rotation vector, radians, relative to its parent
 * @param {?number[]} root 3×4 or 4×4 row-major `T_world_root`, or null for at rest
 * @returns {Float32Array} J × 16: three rows of the 3×4 matrix, then the wxyz quaternion of its rotation
 */
export function jointTransforms(avatar, rotations = {}, root = null) {
  const { joints, parents, jointRest: rest } = avatar;
  const world = [];
  const out = new Float32Array(joints.length * 16);
  joints.forEach((name, j) => {
    const parent = parents[j];
    const local = new Float64Array(12);
    const R = matrixOfQuat(quatOfVector(rotations[name] ?? [0, 0, 0]));
    for (let r = 0; r < 3; r++) {
      local.set(R.slice(r * 3, r * 3 + 3), r * 4);
      local[r * 4 + 3] = rest[j * 3 + r] - (parent < 0 ? 0 : rest[parent * 3 + r]);
    }
    const above = parent < 0 ? root : world[parent];
    const T = (world[j] = above ? compose(above, local) : local);
    const rotation = [];
    for (let r = 0; r < 3; r++) {
      const row = T.subarray(r * 4, r * 4 + 3);
      const moved = row[0] * rest[j * 3] + row[1] * rest[j * 3 + 1] + row[2] * rest[j * 3 + 2];
      out.set([row[0], row[1], row[2], T[r * 4 + 3] - moved], j * 16 + r * 4);
      rotation.push(...row);
    }
    out.set(quatOfMatrix(rotation), j * 16 + 12);
  });
  return out;
}

/** What `deformMeans` needs, decoded: a plain object of typed arrays that can be posted to a worker. */
export function meansRig(avatar) {
  const { count, bounds, means, offsets } = avatar;
  const rest = new Float32Array(count * 3);
  for (let i = 0; i < rest.length; i++) {
    const lo = bounds[i % 3];
    rest[i] = lo + (means[i] / 65535) * (bounds[3 + (i % 3)] - lo);
  }
  return {
    count,
    rest,
    starts: offsets.means.starts,
    index: offsets.means.index,
    values: decodeHalves(offsets.means.values, 1e-3),
    skinJoints: avatar.skinJoints.slice(),
    skinWeights: avatar.skinWeights.slice(),
  };
}

/** Write the moved centres (N × 3, metres) into `out`; `scratch` has the same size. */
export function deformMeans(rig, weights, transforms, scratch, out) {
  const { count, rest, starts, index, values, skinJoints, skinWeights } = rig;
  scratch.set(rest);
  for (let e = 0; e < weights.length; e++) {
    const w = weights[e];
    if (w === 0) continue;
    for (let m = starts[e]; m < starts[e + 1]; m++) {
      const i = index[m] * 3;
      scratch[i] += w * values[m * 3];
      scratch[i + 1] += w * values[m * 3 + 1];
      scratch[i + 2] += w * values[m * 3 + 2];
    }
  }
  for (let i = 0; i < count; i++) {
    const px = scratch[i * 3];
    const py = scratch[i * 3 + 1];
    const pz = scratch[i * 3 + 2];
    let x = 0;
    let y = 0;
    let z = 0;
    for (let k = i * 4; k < i * 4 + 4; k++) {
      const w = skinWeights[k] / 255;
      if (w === 0) continue;
      const t = skinJoints[k] * 16;
      x += w * (transforms[t] * px + transforms[t + 1] * py + transforms[t + 2] * pz + transforms[t + 3]);
      y += w * (transforms[t + 4] * px + transforms[t + 5] * py + transforms[t + 6] * pz + transforms[t + 7]);
      z += w * (transforms[t + 8] * px + transforms[t + 9] * py + transforms[t + 10] * pz + transforms[t + 11]);
    }
    out[i * 3] = x;
    out[i * 3 + 1] = y;
    out[i * 3 + 2] = z;
  }
  return out;
}

/**
 * The whole deformation, plainly: the reference for the shader.
 *
 * @returns {{means: Float32Array, covariances: Float32Array, features: Float32Array, opacities: Float32Array}}
 *   N × 3 m; N × 6 m² (xx xy xz yy yz zz); N × 3; N
 */
export function deform(avatar, weights, transforms) {
  const { count: N, channels: C, offsets } = avatar;
  const means = deformMeans(
    meansRig(avatar),
    weights,
    transforms,
    new Float32Array(N * 3),
    new Float32Array(N * 3),
  );
  const frames = blend(offsets.frames, weights, N);
  const looks = blend(offsets.appearance, weights, N);
  const scales = decodeHalves(avatar.scales, 1e-3);
  const colours = avatar.featuresAreHalf
    ? decodeHalves(avatar.features)
    : Float32Array.from(avatar.features, (v) => v / 255);
  const covariances = new Float32Array(N * 6);
  const features = new Float32Array(N * 3);
  const opacities = new Float32Array(N);
  for (let i = 0; i < N; i++) {
    const change = frames ? frames.subarray(i * 6, i * 6 + 6) : [0, 0, 0, 0, 0, 0];
    const own = quatMultiply(quatOfVector(change), avatar.quats.subarray(i * 4, i * 4 + 4));
    const R = matrixOfQuat(quatMultiply(blendedTurn(avatar, transforms, i), own));
    const s = [0, 1, 2].map((c) => (scales[i * 3 + c] * Math.exp(change[3 + c])) ** 2);
    const entry = (a, b) =>
      R[a * 3] * s[0] * R[b * 3] + R[a * 3 + 1] * s[1] * R[b * 3 + 1] + R[a * 3 + 2] * s[2] * R[b * 3 + 2];
    covariances.set([entry(0, 0), entry(0, 1), entry(0, 2), entry(1, 1), entry(1, 2), entry(2, 2)], i * 6);
    const unit = (x) => Math.min(1, Math.max(0, x));
    for (let c = 0; c < 3; c++)
      features[i * 3 + c] = unit(colours[i * C + c] + (looks ? looks[i * (C + 1) + c] : 0));
    opacities[i] = unit(avatar.opacities[i] / 255 + (looks ? looks[i * (C + 1) + C] : 0));
  }
  return { means, covariances, features, opacities };
}

function blendedTurn(avatar, transforms, i) {
  const quat = (k) =>
    transforms.subarray(avatar.skinJoints[i * 4 + k] * 16 + 12, avatar.skinJoints[i * 4 + k] * 16 + 16);
  const first = quat(0);
  const sum = [0, 0, 0, 0];
  for (let k = 0; k < 4; k++) {
    const q = quat(k);
    // q and -q are one rotation: align the signs with the first joint's before averaging.
    const aligned = first[0] * q[0] + first[1] * q[1] + first[2] * q[2] + first[3] * q[3] < 0 ? -1 : 1;
    const w = (aligned * avatar.skinWeights[i * 4 + k]) / 255;
    for (let c = 0; c < 4; c++) sum[c] += w * q[c];
  }
  const length = Math.hypot(...sum);
  return sum.map((c) => c / length);
}

function blend(table, weights, count) {
  if (!table) return null;
  const { k, starts, index } = table;
  const values = decodeHalves(table.values);
  const total = new Float32Array(count * k);
  weights.forEach((w, e) => {
    if (w === 0) return;
    for (let m = starts[e]; m < starts[e + 1]; m++) {
      for (let c = 0; c < k; c++) total[index[m] * k + c] += w * values[m * k + c];
    }
  });
  return total;
}

/**
 * The same changes ordered by Gaussian instead of by expression, as the shader wants them.
 *
 * @param {?object} table sparse table of `parseAvatar`
 * @param {number} count N
 * @param {number[]} columns the columns of the table to keep
 * @returns {{starts: Uint32Array, entries: Uint16Array}} entries of Gaussian i: starts[i] ≤ m < starts[i + 1]; each
 *   is the expression's number, then the half floats, padded to whole texels of four
 */
export function changesByGaussian(table, count, columns) {
  const starts = new Uint32Array(count + 1);
  if (!table) return { starts, entries: new Uint16Array(0) };
  const { k, index, values } = table;
  for (const i of index) starts[i + 1]++;
  for (let i = 0; i < count; i++) starts[i + 1] += starts[i];
  const next = starts.slice(0, count);
  const stride = 4 * Math.ceil((1 + columns.length) / 4);
  const entries = new Uint16Array(index.length * stride);
  for (let e = 0; e + 1 < table.starts.length; e++) {
    for (let m = table.starts[e]; m < table.starts[e + 1]; m++) {
      const at = next[index[m]]++ * stride;
      entries[at] = e;
      columns.forEach((column, c) => (entries[at + 1 + c] = values[m * k + column]));
    }
  }
  return { starts, entries };
}

/** The little linear algebra a head needs: half floats, wxyz quaternions, row-major 3×4 rigid transforms. */

const HALVES = new Float32Array(65536);
for (let h = 0; h < 65536; h++) {
  const e = (h >> 10) & 31;
  const m = h & 1023;
  const value = e === 0 ? m * 2 ** -24 : e === 31 ? (m ? NaN : Infinity) : (1 + m / 1024) * 2 ** (e - 15);
  HALVES[h] = h & 0x8000 ? -value : value;
}

/** Float32Array of the half floats whose bits are given, each multiplied by `factor`. */
export function decodeHalves(bits, factor = 1) {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = HALVES[bits[i]] * factor;
  return out;
}

export const clamp = (x, lo = 0, hi = 1) => Math.min(hi, Math.max(lo, x));
export const mix = (a, b, t) => a + (b - a) * t;
/** 0 → 1 with zero slope at both ends. */
export const ease = (t) => t * t * (3 - 2 * t);

export const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const normalize = (a) => {
  const length = Math.hypot(...a) || 1;
  return a.map((x) => x / length);
};

/** Unit quaternion of a rotation vector in radians. */
export function quatOfVector(v) {
  const angle = Math.hypot(v[0], v[1], v[2]);
  const s = angle > 1e-9 ? Math.sin(angle / 2) / angle : 0.5;
  return [Math.cos(angle / 2), v[0] * s, v[1] * s, v[2] * s];
}

/** Rotation vector, at most half a turn, of a unit quaternion. */
export function vectorOfQuat([w, x, y, z]) {
  const sign = w < 0 ? -1 : 1;
  const length = Math.hypot(x, y, z);
  const s = length > 1e-9 ? (2 * Math.atan2(length, Math.abs(w)) * sign) / length : 2 * sign;
  return [x * s, y * s, z * s];
}

/** Hamilton product: first b, then a. */
export const quatMultiply = (a, b) => [
  a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
  a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
  a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
  a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
];

/** Nine numbers, row-major, of a quaternion that need not be unit. */
export function matrixOfQuat(q) {
  const length = Math.hypot(...q) || 1;
  const [w, x, y, z] = q.map((c) => c / length);
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
  ];
}

/** Unit quaternion of a row-major rotation matrix (Shepperd: divide by the largest component). */
export function quatOfMatrix(m) {
  const trace = m[0] + m[4] + m[8];
  let q;
  if (trace > Math.max(m[0], m[4], m[8])) q = [1 + trace, m[7] - m[5], m[2] - m[6], m[3] - m[1]];
  else if (m[0] >= m[4] && m[0] >= m[8]) q = [m[7] - m[5], 1 + m[0] - m[4] - m[8], m[1] + m[3], m[2] + m[6]];
  else if (m[4] >= m[8]) q = [m[2] - m[6], m[1] + m[3], 1 - m[0] + m[4] - m[8], m[5] + m[7]];
  else q = [m[3] - m[1], m[2] + m[6], m[5] + m[7], 1 - m[0] - m[4] + m[8]];
  const length = Math.hypot(...q) * (q[0] < 0 ? -1 : 1);
  return q.map((c) => c / length);
}

/** Product of two rigid 3×4 row-major transforms. */
export function compose(a, b) {
  const out = new Float64Array(12);
  for (let r = 0; r < 3; r++) {
    for (let c = 0; c < 4; c++) {
      const i = r * 4;
      out[i + c] = a[i] * b[c] + a[i + 1] * b[4 + c] + a[i + 2] * b[8 + c] + (c === 3 ? a[i + 3] : 0);
    }
  }
  return out;
}

/** Exponential smoothing factor for a step of `dt` seconds with time constant `tau`. */
export const smoothing = (dt, tau) => (tau > 0 ? 1 - Math.exp(-dt / tau) : 1);

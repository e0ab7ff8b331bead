/**
 * Read the bytes of an `.avatar` file (docs/avatar-format.md), trusting nothing in them.
 *
 * The result keeps the file's own compact types (16-bit integers, half floats) as typed arrays, which go to the
 * graphics card as they are; `rig.js` decodes them where numbers are needed.
 */

export const FORMAT_VERSION = 1;
const MAX_HEADER = 16 * 1024 * 1024;
const TYPES = { U8: Uint8Array, U16: Uint16Array, I16: Int16Array, F16: Uint16Array, F32: Float32Array };

/** An avatar file that cannot be used; `message` is one sentence for the reader of the page. */
export class AvatarError extends Error {}

const refuse = (sentence) => {
  throw new AvatarError(sentence);
};

/**
 * Parse an avatar.
 *
 * @param {ArrayBuffer} buffer the whole file
 * @returns {Avatar} see the object at the end: N Gaussians, J joints, E expressions
 * @throws {AvatarError} when the bytes are not a sound avatar of a version this player knows
 */
export function parseAvatar(buffer) {
  const { tensors, meta, base } = readHeader(buffer);
  if (meta.format !== "headsplat.avatar") refuse("This file is not a headsplat avatar; choose an .avatar file.");
  const version = Number(meta.version);
  if (!(version >= 1)) refuse("The avatar names no version; it is damaged.");
  if (version > FORMAT_VERSION) {
    refuse(`The avatar is of version ${version}; use a newer headsplat player to open it.`);
  }

  const read = (name, dtypes, shape) => readTensor(buffer, base, tensors, name, dtypes, shape);
  const joints = names(meta.joints, "joints");
  const expressions = names(meta.expressions, "expressions");
  const parents = json(meta.parents, "parents");
  const J = joints.length;
  const E = expressions.length;
  if (!Array.isArray(parents) || parents.length !== J || J === 0 || J > 255)
    refuse("The joints of the avatar do not match their parents.");
  parents.forEach((p, j) => {
    if (!Number.isInteger(p) || p >= j || p < -1)
      refuse(`Joint ${joints[j]} comes before its parent; the avatar is damaged.`);
  });

  const means = read("means", ["U16"], [null, 3]);
  const N = means.shape[0];
  if (N === 0) refuse("The avatar holds no Gaussians.");
  const features = read("features", ["U8", "F16"], [N, null]);
  const C = features.shape[1];
  if (C < 3) refuse("The avatar has no colours; this player needs three channels.");
  const bounds = read("means.bounds", ["F32"], [2, 3]).data;
  for (let i = 0; i < 3; i++)
    if (!(bounds[i + 3] >= bounds[i])) refuse("The bounds of the avatar are upside down; it is damaged.");
  const skinJoints = read("skin.joints", ["U8"], [N, 4]).data;
  if (skinJoints.some((j) => j >= J))
    refuse("The avatar is skinned to a joint that it does not have; it is damaged.");
  const skinWeights = read("skin.weights", ["U8"], [N, 4]).data;
  if (!everyRow(skinWeights, (a, b, c, d) => a + b + c + d === 255))
    refuse("The avatar has skin weights that do not sum to one; it is damaged.");
  const quats = read("quats", ["I16"], [N, 4]).data;
  if (!everyRow(quats, (w, x, y, z) => Math.abs(Math.hypot(w, x, y, z) / 32767 - 1) < 0.01))
    refuse("The avatar has rotations that are no unit quaternions; it is damaged.");
  const scales = read("scales", ["F16"], [N, 3]).data;
  // The first bit is the sign; 0x8000 is a zero.
  if (scales.some((v) => v > 0x8000)) refuse("The avatar has negative scales; it is damaged.");

  const table = (name, k) => {
    if (!(`${name}.mask` in tensors) && name !== "expression.means") return null;
    const mask = read(`${name}.mask`, ["U8"], [E, Math.ceil(N / 8)]).data;
    const values = read(`${name}.values`, ["F16"], [null, k]);
    return sparseTable(name, mask, values.data, values.shape[0], N, E, k);
  };
  return {
    count: N,
    channels: C,
    joints,
    parents,
    expressions,
    jointRest: read("joints.rest", ["F32"], [J, 3]).data,
    means: means.data,
    bounds,
    quats,
    scales,
    opacities: read("opacities", ["U8"], [N]).data,
    features: features.data,
    featuresAreHalf: features.dtype === "F16",
    skinJoints,
    skinWeights,
    seen: read("seen", ["U8"], [N]).data,
    offsets: {
      means: table("expression.means", 3),
      frames: table("expression.frames", 6),
      appearance: table("expression.appearance", C + 1),
    },
    method: String(meta.method ?? ""),
    source: String(meta.source ?? ""),
    view: viewOf(meta.view),
    info: (meta.info ? json(meta.info, "info") : null) ?? {},
    // A per-frame network cannot run here: the page says that it shows the rigged Gaussians alone.
    ignored: ["deformer", "refiner"].filter((part) => Object.keys(tensors).some((n) => n.startsWith(part + "."))),
  };
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) refuse("The file is too short to be an avatar.");
  const view = new DataView(buffer);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER || 8 + length > buffer.byteLength)
    refuse("This is not an avatar file, or it was cut short.");
  const header = json(new TextDecoder().decode(new Uint8Array(buffer, 8, length)), "header");
  if (header === null || typeof header !== "object") refuse("The header of the avatar is damaged.");
  const { __metadata__: meta, ...tensors } = header;
  const spans = Object.values(tensors).map((entry) => [entry?.data_offsets ?? []].flat());
  spans.sort((a, b) => a[0] - b[0]);
  const end = spans.reduce((last, [from, to]) => (from === last && to >= from ? to : NaN), 0);
  if (8 + length + end !== buffer.byteLength)
    refuse("The tensors of the avatar do not fill the file; it was cut short.");
  return { tensors, meta: meta ?? {}, base: 8 + length };
}

function readTensor(buffer, base, tensors, name, dtypes, wanted) {
  const entry = Object.hasOwn(tensors, name) ? tensors[name] : refuse(`The avatar lacks ${name}; it is damaged.`);
  const { dtype, shape, data_offsets: span } = entry ?? {};
  const fits =
    dtypes.includes(dtype) &&
    Array.isArray(shape) &&
    shape.length === wanted.length &&
    shape.every((n, i) => Number.isInteger(n) && n >= 0 && (wanted[i] === null || n === wanted[i]));
  if (!fits) refuse(`The avatar's ${name} has the wrong type or shape; it is damaged.`);
  const Type = TYPES[dtype];
  const bytes = shape.reduce((a, b) => a * b, 1) * Type.BYTES_PER_ELEMENT;
  const [from, to] = Array.isArray(span) ? span : [];
  if (!Number.isInteger(from) || from < 0 || to - from !== bytes || base + to > buffer.byteLength)
    refuse(`The avatar's ${name} lies outside the file; it is cut short.`);
  const start = base + from;
  const data =
    start % Type.BYTES_PER_ELEMENT === 0
      ? new Type(buffer, start, bytes / Type.BYTES_PER_ELEMENT)
      : new Type(buffer.slice(start, start + bytes));
  // Infinity and NaN have all exponent bits set.
  const bad = dtype === "F16" ? (v) => (v & 0x7c00) === 0x7c00 : (v) => !Number.isFinite(v);
  if (dtype[0] === "F" && data.some(bad))
    refuse(`The avatar's ${name} has values that are not numbers; it is damaged.`);
  return { data, shape, dtype };
}

/** Whether rows of four numbers all pass a test. */
function everyRow(data, passes) {
  for (let i = 0; i < data.length; i += 4)
    if (!passes(data[i], data[i + 1], data[i + 2], data[i + 3])) return false;
  return true;
}

/** Turn a bit mask (E rows of N bits, least significant first) into row starts and Gaussian indices. */
function sparseTable(name, mask, values, M, N, E, k) {
  const stride = Math.ceil(N / 8);
  const starts = new Uint32Array(E + 1);
  const index = new Uint32Array(M);
  let m = 0;
  for (let e = 0; e < E; e++) {
    for (let b = 0; b < stride; b++) {
      for (let bits = mask[e * stride + b]; bits; bits &= bits - 1) {
        const i = b * 8 + 31 - Math.clz32(bits & -bits);
        if (i >= N || m >= M) refuse(`The avatar's ${name} does not match its mask; it is damaged.`);
        index[m++] = i;
      }
    }
    starts[e + 1] = m;
  }
  if (m !== M) refuse(`The avatar's ${name} does not match its mask; it is damaged.`);
  return { k, starts, index, values };
}

function viewOf(text) {
  const { target, height } = json(text ?? "null", "view") ?? {};
  const sound = Array.isArray(target) && target.length === 3 && [...target, height].every(Number.isFinite);
  if (!sound || height <= 0) refuse("The avatar does not say where to look; it is damaged.");
  return { target, height };
}

function names(text, what) {
  const list = json(text ?? "null", what);
  if (!Array.isArray(list) || list.some((n) => typeof n !== "string") || new Set(list).size !== list.length)
    refuse(`The avatar's list of ${what} is damaged.`);
  return list;
}

function json(text, what) {
  try {
    return JSON.parse(text);
  } catch {
    return refuse(`The avatar's ${what} cannot be read; the file is damaged.`);
  }
}

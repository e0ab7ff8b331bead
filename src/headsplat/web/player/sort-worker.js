/**
 * The sorter: moves the centres on the CPU as the card does, and orders them by camera depth.
 *
 * Runs in a worker. Messages in: `{rig}` once, then `{id, weights?, transforms?, view, buffer}`; out:
 * `{id, order, ms}` with `order` farthest first. Buffers are transferred, never shared, so the page needs no
 * special headers.
 */

import { deformMeans } from "./rig.js";

const BITS = 12;
const BINS = 1 << BITS;
const NEAR = 0.01;

/** Sorts one avatar's Gaussians; keeps its working memory between calls. */
export class Sorter {
  constructor(rig) {
    this.rig = rig;
    this.scratch = new Float32Array(rig.count * 3);
    this.means = rig.rest.slice();
    this.depths = new Float32Array(rig.count);
    this.keys = new Uint32Array(rig.count);
    this.low = new Uint32Array(rig.count);
    this.kept = new Uint32Array(rig.count);
    this.counts = new Uint32Array(BINS);
  }

  move(weights, transforms) {
    deformMeans(this.rig, weights, transforms, this.scratch, this.means);
  }

  /**
   * Two stable counting passes over 24-bit depth keys (tens of nanometres apart for a head).
   *
   * @param {number[]} view the camera's depth as a plane: depth = v₀ x + v₁ y + v₂ z + v₃, metres
   * @param {Uint32Array} order room for N indices
   * @returns {Uint32Array} the part of `order` in use, farthest first; what lies behind the camera is left out
   */
  sort(view, order) {
    const { rig, means, depths, keys, low, kept, counts } = this;
    const [x, y, z, w] = view;
    let nearest = Infinity;
    let farthest = -Infinity;
    let n = 0;
    for (let i = 0; i < rig.count; i++) {
      const depth = Math.fround(x * means[i * 3] + y * means[i * 3 + 1] + z * means[i * 3 + 2] + w);
      if (!(depth >= NEAR)) continue;
      depths[i] = depth;
      kept[n++] = i;
      if (depth < nearest) nearest = depth;
      if (depth > farthest) farthest = depth;
    }
    const scale = (BINS * BINS - 1) / Math.max(farthest - nearest, 1e-9);
    counts.fill(0);
    for (let m = 0; m < n; m++) {
      const i = kept[m];
      const key = (keys[i] = (farthest - depths[i]) * scale);
      counts[key & (BINS - 1)]++;
    }
    this.#starts();
    for (let m = 0; m < n; m++) low[counts[keys[kept[m]] & (BINS - 1)]++] = kept[m];
    counts.fill(0);
    for (let m = 0; m < n; m++) counts[keys[kept[m]] >>> BITS]++;
    this.#starts();
    for (let m = 0; m < n; m++) order[counts[keys[low[m]] >>> BITS]++] = low[m];
    return order.subarray(0, n);
  }

  #starts() {
    let sum = 0;
    for (let b = 0; b < BINS; b++) {
      const c = this.counts[b];
      this.counts[b] = sum;
      sum += c;
    }
  }
}

let sorter = null;

/** Answer one message of the page. */
function answer({ data }) {
  if (data.rig) {
    sorter = new Sorter(data.rig);
    return;
  }
  const start = performance.now();
  if (data.weights) sorter.move(data.weights, data.transforms);
  const order = sorter.sort(data.view, new Uint32Array(data.buffer));
  self.postMessage({ id: data.id, order, ms: performance.now() - start }, [order.buffer]);
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) self.onmessage = answer;

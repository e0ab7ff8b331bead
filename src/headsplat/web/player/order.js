/** The page's side of the sort worker: asks for the drawing order of a pose and a view, one question at a time. */

import { meansRig } from "./rig.js";
import { spawnSortWorker } from "./spawn-worker.js";

/** Keeps one avatar's drawing order up to date. */
export class DrawingOrder {
  /**
   * @param {object} avatar from `parseAvatar`
   * @param {() => {pose: {weights, transforms, version}, view: number[]}} now what to sort for
   * @param {(order: Uint32Array) => void} take hears each new order, farthest first
   */
  constructor(avatar, now, take) {
    Object.assign(this, { now, take, milliseconds: 0 });
    this.#spare = new ArrayBuffer(avatar.count * 4);
    this.#worker = spawnSortWorker();
    this.#worker.onmessage = ({ data }) => this.#answered(data);
    this.#worker.postMessage({ rig: meansRig(avatar) });
  }

  #worker;
  #spare;
  #busy = false;
  #wanted = false;
  #sentPose = -1;
  #id = 0;
  #waiting = new Map();

  /** Ask for the order of now; while the worker is busy, remember to ask again. Gives the number of the question. */
  request() {
    if (this.#busy) {
      this.#wanted = true;
      return this.#id + 1;
    }
    const { pose, view } = this.now();
    const moved = pose.version !== this.#sentPose;
    const buffer = this.#spare;
    this.#busy = true;
    this.#wanted = false;
    this.#sentPose = pose.version;
    const message = { id: ++this.#id, view, buffer };
    const { weights, transforms } = pose;
    this.#worker.postMessage(moved ? { ...message, weights, transforms } : message, [buffer]);
    return this.#id;
  }

  /** Wait until the order belongs to the pose and view of now. */
  settle() {
    const id = this.request();
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  dispose() {
    this.#worker.terminate();
    for (const resolve of this.#waiting.values()) resolve();
  }

  #answered({ id, order, ms }) {
    this.milliseconds = ms;
    this.take(order);
    this.#spare = order.buffer;
    this.#busy = false;
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
    if (this.#wanted) this.request();
  }
}

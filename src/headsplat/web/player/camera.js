/** An orbit camera in OpenCV axes, with mouse, touch and wheel. */

import { clamp, cross, dot, mix, normalize, smoothing, sub } from "./math.js";

/** Focal length over the height of the picture, as in Python's `Camera.orbit`. */
const FOCAL = 3.1;
/** A picture narrower than this share of its height shows less of the shoulders rather than a smaller face. */
const NARROW = 0.8;
const PITCH_LIMIT = 1.3;

/** Looks at `target` from `distance`; yaw > 0 moves to the subject's left, pitch > 0 up (radians, metres). */
export class OrbitCamera {
  /** @param {{target: number[], height: number}} view what a portrait shows */
  constructor(view) {
    this.home = { yaw: 0, pitch: 0, distance: FOCAL * view.height, target: [...view.target] };
    this.wanted = structuredClone(this.home);
    Object.assign(this, structuredClone(this.home));
    this.fixed = null;
  }

  /** Move there; with `glide` the camera takes a fraction of a second. */
  set(values, { glide = false } = {}) {
    this.fixed = null;
    Object.assign(this.wanted, values);
    this.wanted.pitch = clamp(this.wanted.pitch, -PITCH_LIMIT, PITCH_LIMIT);
    this.wanted.distance = clamp(this.wanted.distance, this.home.distance * 0.25, this.home.distance * 4);
    if (!glide) Object.assign(this, structuredClone(this.wanted));
  }

  /** Back to the portrait the avatar came with. */
  reset(options = { glide: true }) {
    const turns = Math.round(this.yaw / (2 * Math.PI)) * 2 * Math.PI;
    this.set({ ...structuredClone(this.home), yaw: turns }, options);
  }

  /** Glide on by `dt` seconds; true while something moves. */
  update(dt) {
    const t = smoothing(dt, 0.07);
    let moved = 0;
    const glide = (a, b) => {
      moved = Math.max(moved, Math.abs(a - b));
      return Math.abs(a - b) < 1e-5 ? b : mix(a, b, t);
    };
    for (const name of ["yaw", "pitch", "distance"]) this[name] = glide(this[name], this.wanted[name]);
    this.target = this.target.map((x, i) => glide(x, this.wanted.target[i]));
    return moved > 0;
  }

  /** World position, metres. */
  get position() {
    if (this.fixed) {
      const m = this.fixed.viewmat;
      return [0, 1, 2].map((c) => -(m[c] * m[3] + m[4 + c] * m[7] + m[8 + c] * m[11]));
    }
    const { yaw, pitch, distance, target } = this;
    const away = [Math.sin(yaw) * Math.cos(pitch), Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch)];
    return target.map((t, i) => t + distance * away[i]);
  }

  /** `{viewmat (16, row-major), fx, fy, cx, cy}` for a picture of `width` × `height` pixels. */
  matrices(width, height) {
    if (this.fixed) return this.fixed;
    const position = this.position;
    const forward = normalize(sub(this.target, position));
    const right = normalize(cross(forward, [0, 1, 0]));
    const rows = [right, cross(forward, right), forward];
    const viewmat = [...rows.flatMap((row) => [...row, -dot(row, position)]), 0, 0, 0, 1];
    const focal = FOCAL * Math.min(width / NARROW, height);
    return { viewmat, fx: focal, fy: focal, cx: width / 2, cy: height / 2 };
  }

  /**
   * Let the reader turn the head: drag = orbit, two fingers or right button = pan, wheel or pinch = zoom,
   * double click = back home; arrows, + and - while it has the focus.
   *
   * @param {HTMLElement} element
   * @param {AbortSignal} signal ends the listening
   * @param {() => void} changed called after each movement
   */
  attach(element, signal, changed) {
    const fingers = new Map();
    const on = (type, handler, options = {}) => element.addEventListener(type, handler, { signal, ...options });
    const size = () => Math.min(element.clientWidth, element.clientHeight) || 1;
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, d: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
    };
    element.style.touchAction = "none";
    if (element.tabIndex < 0) element.tabIndex = 0;

    on("pointerdown", (event) => {
      element.setPointerCapture?.(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    on("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? spread() : null;
      const now = { x: event.clientX, y: event.clientY };
      fingers.set(event.pointerId, now);
      if (before) {
        const after = spread();
        this.#pan((after.x - before.x) / size(), (after.y - before.y) / size());
        this.set({ distance: (this.wanted.distance * before.d) / after.d }, { glide: true });
      } else if (event.buttons & 6) {
        this.#pan((now.x - last.x) / size(), (now.y - last.y) / size());
      } else {
        const { yaw, pitch } = this.wanted;
        this.set(
          { yaw: yaw - ((now.x - last.x) / size()) * 3, pitch: pitch + ((now.y - last.y) / size()) * 2.4 },
          { glide: true },
        );
      }
      changed();
    });
    for (const type of ["pointerup", "pointercancel"]) on(type, (event) => fingers.delete(event.pointerId));
    on(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 16 : 1;
        this.set(
          { distance: this.wanted.distance * Math.exp(clamp(event.deltaY * lines, -200, 200) * 0.0015) },
          { glide: true },
        );
        changed();
      },
      { passive: false },
    );
    on("dblclick", () => {
      this.reset();
      changed();
    });
    const keys = {
      ArrowLeft: [-0.15, 0],
      ArrowRight: [0.15, 0],
      ArrowUp: [0, 0.12],
      ArrowDown: [0, -0.12],
      "+": 0.9,
      "-": 1.1,
    };
    on("keydown", (event) => {
      const step = keys[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const { yaw, pitch, distance } = this.wanted;
      this.set(
        Array.isArray(step) ? { yaw: yaw + step[0], pitch: pitch + step[1] } : { distance: distance * step },
        { glide: true },
      );
      changed();
    });
    on("contextmenu", (event) => event.preventDefault());
  }

  /** Slide the target by a fraction of the shorter side. */
  #pan(x, y) {
    const [a, b, c, , d, e, f] = this.matrices(1, 1).viewmat;
    const reach = this.wanted.distance / FOCAL;
    const target = this.wanted.target.map((t, i) => t - reach * (x * [a, b, c][i] + y * [d, e, f][i]));
    this.set({ target }, { glide: true });
  }
}

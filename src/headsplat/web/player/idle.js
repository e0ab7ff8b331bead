/** The life of a head nobody drives: blinks, breath, small sways, glances. */

import { lookWeights } from "./arkit.js";
import { clamp, ease, smoothing } from "./math.js";

/** A small repeatable random generator (mulberry32): numbers in 0..1. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Seconds a lid takes to close, rests, and opens. */
const CLOSE = 0.07;
const REST = 0.04;
const OPEN = 0.16;

/** Lid weight `t` seconds into a blink. */
export function blinkAt(t) {
  if (t < 0 || t > CLOSE + REST + OPEN) return 0;
  if (t < CLOSE) return ease(t / CLOSE);
  return t < CLOSE + REST ? 1 : 1 - ease((t - CLOSE - REST) / OPEN);
}

/** Produces idle weights and rotations; switch parts with `blink`, `breath`, `sway`, `gaze`. */
export class Idle {
  constructor({ blink = true, breath = true, sway = true, gaze = true, seed = 1 } = {}) {
    Object.assign(this, { blink, breath, sway, gaze });
    this.random = randomFrom(seed);
    this.time = 0;
    this.nextBlink = 1 + this.random() * 2;
    this.nextGlance = 0.5;
    this.glance = [0, 0];
    this.eyes = [0, 0];
  }

  update(dt) {
    this.time += dt;
    const t = this.time;
    const weights = {};
    const rotations = { neck: [0, 0, 0], head: [0, 0, 0] };

    if (this.gaze) {
      if (t > this.nextGlance) {
        const away = this.random() < 0.25 ? 0.13 : 0.035;
        this.glance = [(this.random() - 0.5) * 2 * away, (this.random() - 0.5) * away];
        this.nextGlance = t + 0.6 + 2.4 * this.random();
        if (away > 0.1 && this.random() < 0.5) this.nextBlink = Math.min(this.nextBlink, t);
      }
      const s = smoothing(dt, 0.03);
      this.eyes = this.eyes.map((e, i) => e + (this.glance[i] - e) * s);
      const [yaw, pitch] = this.eyes;
      Object.assign(weights, lookWeights(yaw, pitch));
      rotations.left_eye = rotations.right_eye = [pitch, yaw, 0];
    }
    if (this.blink) {
      const since = t - this.nextBlink;
      const lid = blinkAt(since);
      weights.eyeBlinkLeft = weights.eyeBlinkRight = lid;
      if (since > CLOSE + REST + OPEN)
        this.nextBlink = t + (this.random() < 0.12 ? 0.1 : 1.6 + 4.4 * this.random());
    }
    if (this.breath) {
      const breath = Math.sin(2 * Math.PI * 0.23 * t);
      rotations.neck[0] += 0.006 * breath;
      weights.noseSneerLeft = weights.noseSneerRight = 0.02 * clamp(breath);
    }
    if (this.sway) {
      // Slow sines that never line up look less mechanical than noise.
      const wave = (a, b, phase) => 0.6 * Math.sin(a * t + phase) + 0.4 * Math.sin(b * t + 2.3 * phase);
      rotations.head[0] += 0.016 * wave(0.61, 1.07, 0.4);
      rotations.head[1] += 0.028 * wave(0.43, 0.97, 1.1);
      rotations.head[2] += 0.012 * wave(0.37, 0.83, 2.0);
      weights.mouthSmileLeft = weights.mouthSmileRight = 0.05 * clamp(0.5 + wave(0.21, 0.33, 0.9));
    }
    return { weights, rotations };
  }
}

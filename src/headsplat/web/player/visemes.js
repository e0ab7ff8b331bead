/** Lips from sound: the 15 Oculus visemes as ARKit weights, timed viseme tracks, and a loudness fallback. */

import { clamp } from "./math.js";
import { framesIn, motionOfFrames } from "./motion.js";

const both = (name, w) => ({ [`${name}Left`]: w, [`${name}Right`]: w });

/** ARKit weights of each Oculus viseme at full strength. */
export const VISEMES = {
  sil: {},
  PP: { mouthClose: 0.1, mouthPucker: 0.12, mouthRollLower: 0.35, mouthRollUpper: 0.35, ...both("mouthPress", 0.45) },
  FF: { jawOpen: 0.06, mouthRollLower: 0.6, mouthShrugUpper: 0.2, ...both("mouthUpperUp", 0.25) },
  TH: { jawOpen: 0.18, tongueOut: 0.35, ...both("mouthUpperUp", 0.15), ...both("mouthLowerDown", 0.2) },
  DD: { jawOpen: 0.16, ...both("mouthLowerDown", 0.3), ...both("mouthUpperUp", 0.15), ...both("mouthStretch", 0.1) },
  kk: { jawOpen: 0.22, ...both("mouthLowerDown", 0.25), ...both("mouthStretch", 0.15) },
  CH: { jawOpen: 0.12, mouthFunnel: 0.5, mouthPucker: 0.2, ...both("mouthUpperUp", 0.15), ...both("mouthLowerDown", 0.2) },
  SS: { jawOpen: 0.06, ...both("mouthStretch", 0.3), ...both("mouthSmile", 0.15), ...both("mouthLowerDown", 0.3), ...both("mouthUpperUp", 0.15) },
  nn: { jawOpen: 0.14, ...both("mouthLowerDown", 0.2), ...both("mouthUpperUp", 0.1) },
  RR: { jawOpen: 0.14, mouthFunnel: 0.35, mouthPucker: 0.3, ...both("mouthLowerDown", 0.12) },
  aa: { jawOpen: 0.6, ...both("mouthLowerDown", 0.25), ...both("mouthUpperUp", 0.12), ...both("mouthStretch", 0.08) },
  E: { jawOpen: 0.3, ...both("mouthStretch", 0.3), ...both("mouthSmile", 0.2), ...both("mouthLowerDown", 0.25), ...both("mouthUpperUp", 0.12) },
  I: { jawOpen: 0.18, ...both("mouthStretch", 0.35), ...both("mouthSmile", 0.35), ...both("mouthLowerDown", 0.25), ...both("mouthUpperUp", 0.1) },
  O: { jawOpen: 0.4, mouthFunnel: 0.65, mouthPucker: 0.15 },
  U: { jawOpen: 0.16, mouthFunnel: 0.35, mouthPucker: 0.65 },
};

const FPS = 60;
/** Milliseconds in which lips arrive and leave. */
const ATTACK = 60;
const RELEASE = 90;

/** ARKit weights of a mixture of visemes `{aa: 0.6, …}`. */
export function visemeWeights(mixture) {
  const weights = {};
  for (const [viseme, amount] of Object.entries(mixture)) {
    for (const [name, w] of Object.entries(VISEMES[viseme] ?? {})) weights[name] = (weights[name] ?? 0) + w * amount;
  }
  return weights;
}

/**
 * A motion from a timed track, TalkingHead's way.
 *
 * @param {{visemes: string[], vtimes: number[], vdurations: number[]}} track names, starts and durations in ms
 */
export function motionOfVisemes({ visemes, vtimes = [], vdurations = [] }, name = "speech") {
  const events = visemes
    .map((v, i) => ({ v: String(v).replace(/^viseme_/, ""), start: +vtimes[i] || 0, end: (+vtimes[i] || 0) + (+vdurations[i] || 100) }))
    .filter(({ v }) => Object.hasOwn(VISEMES, v));
  const length = events.reduce((end, e) => Math.max(end, e.end), 0) + RELEASE;
  const frames = [];
  for (let frame = 0, count = framesIn(length / 1000, FPS); frame < count; frame++) {
    const ms = (frame * 1000) / FPS;
    const mixture = {};
    for (const { v, start, end } of events) {
      // Full between a little after the start and a little before the end; neighbours overlap.
      const rise = clamp((ms - start + ATTACK / 2) / ATTACK);
      const fall = clamp((end + RELEASE / 2 - ms) / RELEASE);
      const peak = v === "PP" || v === "FF" ? 1 : 0.8;
      mixture[v] = Math.max(mixture[v] ?? 0, peak * Math.min(rise, fall));
    }
    // Closed lips must close: what opens the mouth yields to them.
    const shut = 1 - 0.85 * Math.max(mixture.PP ?? 0, 0.7 * (mixture.FF ?? 0));
    for (const v of Object.keys(mixture)) if (v !== "PP" && v !== "FF") mixture[v] *= shut;
    const sum = Object.values(mixture).reduce((a, b) => a + b, 0);
    if (sum > 1) for (const v of Object.keys(mixture)) mixture[v] /= sum;
    frames.push({ weights: visemeWeights(mixture) });
  }
  return motionOfFrames(name, FPS, frames);
}

/**
 * A motion from sound alone: loudness opens the jaw, hiss spreads the lips.
 *
 * @param {{sampleRate: number, getChannelData: (c: number) => Float32Array}} audio an AudioBuffer
 */
export function motionOfAudio(audio, name = "speech") {
  const samples = audio.getChannelData(0);
  const hop = Math.round(audio.sampleRate / FPS);
  const levels = [];
  for (let at = 0; at + hop <= samples.length; at += hop) {
    let power = 0;
    let crossings = 0;
    for (let i = at; i < at + hop; i++) {
      power += samples[i] * samples[i];
      if (i > at && samples[i] >= 0 !== samples[i - 1] >= 0) crossings++;
    }
    levels.push({ loud: Math.sqrt(power / hop), hiss: clamp((crossings / hop) * 5 - 0.4) });
  }
  const sorted = levels.map((l) => l.loud).sort((a, b) => a - b);
  const full = Math.max(0.01, sorted[Math.floor(sorted.length * 0.95)] ?? 0);
  let open = 0;
  let spread = 0;
  const frames = levels.map(({ loud, hiss }) => {
    const wanted = clamp(loud / full - 0.08) ** 0.8;
    open += (wanted * (1 - 0.7 * hiss) - open) * (wanted > open ? 0.5 : 0.25);
    spread += (wanted * hiss - spread) * 0.4;
    return { weights: visemeWeights({ aa: open * 0.55, O: open * 0.15, SS: spread * 0.8, E: open * 0.15 }) };
  });
  return motionOfFrames(name, FPS, frames.length ? frames : [{ weights: { jawOpen: 0 } }]);
}

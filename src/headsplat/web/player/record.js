/** Films of a canvas with the browser's own encoder, and takes of what the face did. */

import { motionOfFrames } from "./motion.js";

const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

/**
 * Start filming.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{fps?: number, type?: string, bitsPerSecond?: number}} options
 * @returns {{stop: () => Promise<Blob>}} VP8 and VP9 keep the transparency
 */
export function recordCanvas(canvas, { fps = 30, type, bitsPerSecond = 8e6 } = {}) {
  const mimeType = type ?? KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
  const stream = canvas.captureStream(fps);
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: bitsPerSecond });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start(500);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  return {
    stop: async () => {
      recorder.stop();
      await stopped;
      for (const track of stream.getTracks()) track.stop();
      return new Blob(parts, { type: recorder.mimeType });
    },
  };
}

/**
 * Note the live weights and rotations of a player's frames.
 *
 * @param {import("./player.js").Player} player
 * @returns {{stop: () => object}} whose motion has the frames' average rate
 */
export function recordFrames(player) {
  const frames = [];
  const start = performance.now();
  let seconds = 0;
  const note = () => {
    seconds = (performance.now() - start) / 1000;
    frames.push({ weights: player.getWeights({ live: true }), rotations: { ...player.liveRotations } });
  };
  note();
  player.addEventListener("frame", note);
  return {
    stop: () => {
      player.removeEventListener("frame", note);
      return motionOfFrames("take", Math.max(1, (frames.length - 1) / Math.max(0.001, seconds)), frames);
    },
  };
}

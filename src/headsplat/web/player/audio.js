/** Sound in: decode what TalkingHead's callers pass, and a clock that the lips can follow. */

/**
 * @param {AudioContext} context
 * @param {AudioBuffer|ArrayBuffer|ArrayBuffer[]} audio decoded, a sound file's bytes, or chunks of 16-bit mono PCM
 * @param {number} sampleRate of PCM chunks
 */
export async function decodeAudio(context, audio, sampleRate) {
  if (audio instanceof AudioBuffer) return audio;
  if (!Array.isArray(audio)) return context.decodeAudioData(audio.slice(0));
  const chunks = audio.map((chunk) => new Int16Array(chunk));
  const buffer = context.createBuffer(
    1,
    Math.max(
      1,
      chunks.reduce((n, c) => n + c.length, 0),
    ),
    sampleRate,
  );
  const samples = buffer.getChannelData(0);
  let at = 0;
  for (const chunk of chunks) for (const value of chunk) samples[at++] = value / 32768;
  return buffer;
}

/** Start playing; `time()` is the second now heard, `stop()` ends it. */
export function startAudio(context, buffer) {
  const node = new AudioBufferSourceNode(context, { buffer });
  node.connect(context.destination);
  const start = context.currentTime;
  node.start();
  return {
    time: () => context.currentTime - start - (context.outputLatency || 0),
    stop: () => node.stop(),
  };
}

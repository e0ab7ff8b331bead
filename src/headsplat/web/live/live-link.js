/** Live Link Face in the page: what the bridge sends drives the avatar. */

const FADE = 0.35;
const LOST_AFTER = 0.7;

/** An input for `Player.follow` that listens to the bridge's websocket; it calls again when the line drops. */
export class LiveLink {
  #weights = {};
  #rotations = {};
  #heard = -Infinity;
  #socket = null;
  #stopped = false;

  /** @param {string|URL} address of the websocket */
  constructor(address) {
    this.address = address;
    this.gain = 0;
    this.#connect();
  }

  /** Called by the player each frame; without news the face fades to rest. */
  update(dt) {
    const live = performance.now() / 1000 - this.#heard < LOST_AFTER;
    this.gain = Math.min(1, Math.max(0, this.gain + ((live ? 1 : -1) * dt) / FADE));
    return this.gain > 0 ? { weights: this.#weights, rotations: this.#rotations, gain: this.gain } : null;
  }

  stop() {
    this.#stopped = true;
    this.#socket?.close();
  }

  #connect() {
    this.#socket = new WebSocket(this.address);
    this.#socket.onmessage = ({ data }) => {
      const { weights, rotations } = JSON.parse(data);
      this.#weights = weights;
      this.#rotations = rotations;
      this.#heard = performance.now() / 1000;
    };
    this.#socket.onclose = () => this.#stopped || setTimeout(() => this.#connect(), 1000);
  }
}

const address = new URL("../live", location.href);
address.protocol = "ws:";
const wait = setInterval(() => {
  if (!globalThis.player?.avatar) return;
  clearInterval(wait);
  globalThis.player.follow(new LiveLink(address));
}, 100);

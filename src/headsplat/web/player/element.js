/** `<head-splat src="me.avatar">`: the player as an element. */

import { Player } from "./player.js";

const STYLE = `:host{display:block;position:relative;width:100%;aspect-ratio:1;overflow:hidden}
canvas{position:absolute;inset:0;width:100%;height:100%;display:block;outline:none}
p{position:absolute;inset:auto 1em 1em;margin:0;font:14px system-ui,sans-serif;color:#c55;text-align:center}
img{position:absolute;inset:0;width:100%;height:100%;object-fit:cover}`;

/**
 * Attributes: `src`; `take` (a built-in motion to loop); `look` ("camera"); `still` (no idle life); `fixed` (no
 * orbiting); `poster` (a picture until the avatar is there, and where there is no WebGL2). The property `player` is
 * the `Player` once the event `load` has come.
 */
export class HeadSplat extends HTMLElement {
  static observedAttributes = ["src", "take", "look"];

  player = null;
  #root = this.attachShadow({ mode: "open" });

  connectedCallback() {
    this.#show();
  }

  disconnectedCallback() {
    this.player?.dispose();
    this.player = null;
  }

  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || before === now) return;
    if (name === "src") this.#show();
    else this.#behave();
  }

  async #show() {
    const source = this.getAttribute("src");
    this.player?.dispose();
    this.player = null;
    this.#root.innerHTML = `<style>${STYLE}</style>`;
    if (!source) return;
    const poster = this.getAttribute("poster");
    const picture = poster ? this.#root.appendChild(Object.assign(new Image(), { src: poster, alt: "" })) : null;
    const canvas = this.#root.appendChild(document.createElement("canvas"));
    try {
      const player = await Player.create(canvas, source, {
        idle: !this.hasAttribute("still"),
        interactive: !this.hasAttribute("fixed"),
      });
      if (!canvas.isConnected) return player.dispose();
      this.player = player;
      player.addEventListener("frame", () => picture?.remove(), { once: true });
      this.#behave();
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (!canvas.isConnected) return;
      canvas.remove();
      if (!picture) this.#root.appendChild(document.createElement("p")).textContent = error.message;
      this.dispatchEvent(new ErrorEvent("error", { error, message: error.message }));
    }
  }

  #behave() {
    this.player?.lookAt(this.getAttribute("look"));
    const take = this.getAttribute("take");
    if (take) this.player?.play(take, { loop: true });
    else this.player?.stop();
  }
}

customElements.get("head-splat") ?? customElements.define("head-splat", HeadSplat);

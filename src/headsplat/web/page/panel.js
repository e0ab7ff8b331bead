/** The side panel: a slider for every expression, the pose of the head, and what the view shows. */

import { ARKIT, eyeRotations, headTurn, otherSide } from "../player/arkit.js";

const GROUPS = [
  ["Brows", /^brow/],
  ["Lids", /^eye(Blink|Squint|Wide)/],
  ["Gaze", /^eyeLook/],
  ["Jaw", /^jaw/],
  ["Mouth", /^mouth/],
  ["Cheeks and nose", /^(cheek|nose)/],
  ["Tongue", /^tongue/],
  ["Other", /./],
];
const BACKDROPS = [
  ["Studio", ""],
  ["Black", "#000"],
  ["Grey", "#6b6d70"],
  ["Paper", "#e9e6e0"],
  ["Dusk", "linear-gradient(#3b3f58,#15151d)"],
  ["Green", "#00b140"],
];
const DEGREE = Math.PI / 180;

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

/** A labelled slider; `change` hears its value. Gives the row with `show(value)`. */
function slider(label, { min = 0, max = 1, step = 0.01, format = (v) => v.toFixed(2) }, change) {
  const input = make("input", { type: "range", min, max, step, value: 0, ariaLabel: label });
  const output = make("output");
  const row = make(
    "label",
    { className: "row", title: label },
    make("span", { textContent: label }),
    input,
    output,
  );
  row.show = (value) => {
    const percent = (v) => `${((v - min) / (max - min)) * 100}%`;
    input.value = value;
    input.style.setProperty("--from", percent(Math.min(value, Math.max(0, min))));
    input.style.setProperty("--at", percent(Math.max(value, Math.max(0, min))));
    output.textContent = Math.abs(value) < step / 2 ? "" : format(value);
    row.classList.toggle("live", Math.abs(value) >= step / 2);
  };
  input.addEventListener("input", () => {
    row.show(+input.value);
    change(+input.value);
  });
  row.addEventListener("dblclick", () => {
    row.show(0);
    change(0);
  });
  row.show(0);
  return row;
}

/** Fill the panel for the avatar in `player`; gives `sync()`, which shows the live weights. */
export function fillPanel(player, $) {
  const rows = fillExpressions(player, $);
  fillPose(player, $);
  fillView(player, $);
  return {
    sync: () => {
      const live = player.getWeights({ live: true });
      for (const [name, row] of rows) if (!row.contains(document.activeElement)) row.show(live[name]);
    },
  };
}

function fillExpressions(player, $) {
  const rows = new Map();
  const left = new Set(player.expressions);
  const sections = GROUPS.map(([title, pattern]) => {
    const names = [...left].filter((name) => pattern.test(name));
    names.forEach((name) => left.delete(name));
    const section = make("section", {}, make("h2", { textContent: title }));
    for (const name of names) {
      // Coefficients of other models, such as FLAME's, have two ends.
      const row = slider(name, ARKIT.includes(name) ? {} : { min: -2, max: 2 }, (value) => {
        const twin = otherSide(name);
        const both =
          $("both").checked &&
          rows.has(twin) &&
          !/^(jaw|mouth)(Left|Right)$/.test(name) &&
          !name.startsWith("eyeLook");
        player.setWeights(both ? { [name]: value, [twin]: value } : { [name]: value });
        if (both) rows.get(twin).show(value);
        player.setPose(eyeRotations(player.getWeights()));
      });
      rows.set(name, row);
      section.append(row);
    }
    return names.length ? section : null;
  });
  $("expressions").replaceChildren(...sections.filter(Boolean));
  $("filter").oninput = ({ target }) => {
    const wanted = target.value.toLowerCase();
    for (const [name, row] of rows) row.hidden = !name.toLowerCase().includes(wanted);
    for (const section of $("expressions").children) section.hidden = !section.querySelector(".row:not([hidden])");
  };
  $("neutral").onclick = () => {
    player.setWeights(Object.fromEntries(player.expressions.map((name) => [name, 0])));
    player.setPose(eyeRotations({}));
    for (const row of rows.values()) row.show(0);
  };
  return rows;
}

function fillPose(player, $) {
  const turn = [0, 0, 0];
  const gaze = [0, 0, 0];
  const degrees = (reach) => ({ min: -reach, max: reach, step: 1, format: (v) => `${v.toFixed(0)}°` });
  const head = () => player.setPose(headTurn(turn.map((d) => d * DEGREE)));
  const eyes = () => {
    const vector = gaze.map((d) => d * DEGREE);
    player.setPose({ left_eye: vector, right_eye: vector });
  };
  const row = (label, reach, values, index, apply) =>
    slider(label, degrees(reach), (value) => {
      values[index] = value;
      apply();
    });
  $("joints").replaceChildren(
    make("h2", { textContent: "Head" }),
    row("Turn", 60, turn, 1, head),
    row("Nod", 35, turn, 0, head),
    row("Tilt", 30, turn, 2, head),
    make("h2", { textContent: "Eyes" }),
    row("Sideways", 32, gaze, 1, eyes),
    row("Up and down", 22, gaze, 0, eyes),
  );
}

/** What to say of an avatar that has a network. */
export const withoutNetwork = (avatar) =>
  `Its ${avatar.ignored.join(" and ")} cannot run in a browser; you see the rigged Gaussians alone.`;

function fillView(player, $) {
  const { avatar } = player;
  const { distance } = player.camera.home;
  const views = [
    ["Front", {}],
    ["Close", { distance: distance * 0.55 }],
    ["Left", { yaw: 0.9 }],
    ["Right", { yaw: -0.9 }],
    ["Above", { pitch: 0.6 }],
    ["Back", { yaw: Math.PI }],
  ].map(([title, change]) => {
    const button = make("button", { type: "button", textContent: title });
    button.onclick = () =>
      player.camera.set({ ...structuredClone(player.camera.home), ...change }, { glide: true });
    return button;
  });
  const own = make("input", { type: "color", className: "swatch", value: "#2b3a55", title: "Your own colour" });
  own.oninput = () => document.body.style.setProperty("--backdrop", own.value);
  const swatches = BACKDROPS.map(([title, background], i) => {
    const button = make("button", {
      type: "button",
      className: "swatch",
      title,
      ariaLabel: title,
      ariaPressed: String(i === 0),
    });
    button.style.background = background || "radial-gradient(#33363b, #121315)";
    button.onclick = () => {
      document.body.style.setProperty("--backdrop", background);
      if (!background) document.body.style.removeProperty("--backdrop");
      for (const other of swatches) other.ariaPressed = String(other === button);
    };
    return button;
  });
  const seen = make("input", { type: "checkbox" });
  seen.onchange = () => {
    player.showSeen = seen.checked ? 0.75 : 0;
    player.setPose({});
  };
  const share = avatar.seen.reduce((sum, v) => sum + v, 0) / avatar.seen.length / 255;
  const facts = [
    ["Gaussians", avatar.count.toLocaleString("en")],
    ["Expressions", avatar.expressions.length],
    ["Method", avatar.method || "–"],
    ["Seen in the photo", `${Math.round(share * 100)} %`],
    ["Textures", `${(player.textureBytes / 1e6).toFixed(1)} MB`],
  ];
  $("view").replaceChildren(
    make("h2", { textContent: "From" }),
    make("div", { className: "choices" }, ...views),
    make("h2", { textContent: "Background" }),
    make("div", { className: "choices" }, ...swatches, own),
    make("h2", { textContent: "Honesty" }),
    make("label", {}, seen, "Show what was seen and what was invented"),
    make("p", { textContent: "Green parts were in the photo; red ones were made up." }),
    make("h2", { textContent: "This avatar" }),
    make("dl", {}, ...facts.flatMap(([k, v]) => [make("dt", { textContent: k }), make("dd", { textContent: v })])),
    ...(avatar.ignored.length ? [make("p", { textContent: withoutNetwork(avatar) })] : []),
  );
}

/** The page's icons: strokes on a 24 × 24 grid. */

const PATHS = {
  life: "M3 12h4l2.5-6 4 12 2.5-6h5",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z M12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6Z",
  webcam: "M12 3.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z M12 7.6a2.4 2.4 0 1 0 0 4.8 2.4 2.4 0 0 0 0-4.8Z M6.5 20.5h11 M12 16.5v4",
  shot: "M4 8.5h3.2l1.6-2.6h6.4l1.6 2.6H20v10.6H4Z M12 10.6a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4Z",
  film: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6Z",
  home: "M4.5 9.5A8 8 0 1 1 4 13 M4.5 4.5v5h5",
  sliders: "M4 7h9 M17 7h3 M15 4.8v4.4 M4 12h3 M11 12h9 M9 9.8v4.4 M4 17h9 M17 17h3 M15 14.8v4.4",
  close: "M6.5 6.5l11 11 M17.5 6.5l-11 11",
  play: "M8 5.5v13l10.5-6.5Z",
  pause: "M8.5 6v12 M15.5 6v12",
};

/** SVG text of an icon. */
export const icon = (name) => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${PATHS[name]}"/></svg>`;

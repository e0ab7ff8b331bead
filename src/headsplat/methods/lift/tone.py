"""Exposure and white balance: bring a photo into the tone of another of the same person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.methods.lift.numeric import inside, look_up, nearest_index
from headsplat.methods.lift.view import View

STRONGEST = 2.5
"""Largest factor; photos further apart than this are matched part of the way."""


def match_tone(view: View, main: View) -> View:
    """The view with its colours multiplied per channel so that skin seen in both has the main one's tone."""
    both = _skin(view) & _skin(main)
    if both.sum() < 50:
        return view
    ratio = np.log((_colours(main)[both] + 0.02) / (_colours(view)[both] + 0.02))
    gain = np.clip(np.exp(np.median(ratio, 0)), 1 / STRONGEST, STRONGEST).astype(np.float32)
    frame = view.frame
    frame = replace(
        frame, image=np.clip(frame.image * gain, 0, 1), foreground=np.clip(frame.foreground * gain, 0, 1)
    )
    return replace(view, frame=frame)


def _skin(view: View) -> np.ndarray:
    """(V,) bool: vertices of the face that the photo shows squarely and in full."""
    row, column = nearest_index(view.pixels, *view.shape)
    shown = inside(view.pixels, *view.shape, 2) & (view.pixels[:, 2] < view.depth[row, column] + 0.003)
    shown &= (view.facing > 0.45) & (view.frame.alpha[row, column] > 0.95) & view.frame.valid[row, column]
    return shown & view.regions.head & (view.regions.behind < -0.01)


def _colours(view: View) -> np.ndarray:
    return look_up(view.frame.foreground, view.pixels).astype(np.float64)

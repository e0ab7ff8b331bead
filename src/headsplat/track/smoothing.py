"""Take the noise out of tracked values without lag, and without rounding off what really is quick.

Every value is fitted by a parabola over a window of frames around it (Savitzky and Golay 1964). A longer
window removes more noise and blurs more; how long it may be is decided for each frame by Lepski's method
(1990; the "intersection of confidence intervals"): the window grows while the answer stays within what the
noise explains. So a still face is smoothed over half a second, and a blink not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_HALF_WINDOWS = (2, 3, 4, 6, 8)
"""In frames at 30 per second."""
_AT_FPS = 30.0
_LEAST_FPS = 12.0
"""With fewer frames per second, neighbours show other moments and are not averaged."""


def smooth_adaptively(
    values: np.ndarray,
    groups: Sequence[np.ndarray],
    fps: float,
    *,
    sigmas: float = 2.0,
    first: float = 4.0,
    floor: float = 0.0,
    ceiling: float | np.ndarray = np.inf,
    alone: float = np.inf,
    longest: int = 8,
) -> np.ndarray:
    """Smooth columns over time.

    Args:
        values: (T, D).
        groups: numbers of columns that share their windows, because they belong to one movement; a column in
            no group stays as it is.
        fps: frames per second.
        sigmas: how many standard deviations two windows may disagree by before the longer one is refused.
        first: the same between the raw value and the shortest window: a single frame is noisy evidence.
        floor: the least standard deviation of the noise that is assumed.
        ceiling: the largest, one for all or (D,); a film that stutters must not pass for a noisy one.
        alone: how many times farther one column may be off than its group together.
        longest: the longest half window, in frames at 30 per second.
    """
    noise = np.clip(noise_of(values), floor, ceiling)
    answers, shares = [values], [1.0]
    for half in _half_windows(fps, longest):
        if len(values) < 2 * half + 1:
            break
        answers.append(_parabola(values, half))
        # How much of the noise's standard deviation is left.
        shares.append(float(np.linalg.norm(_weights(half)[half])))
    out = np.array(values, np.float64)
    for group in groups:
        going = np.ones(len(values), bool)
        for i in range(1, len(answers)):
            for j in range(i):
                away = np.abs(answers[i][:, group] - answers[j][:, group]) / (noise[group] * shares[j])
                limit = sigmas if j else first
                going &= (np.sqrt((away**2).mean(1)) < limit) & (away.max(1) < alone * limit)
            out[np.ix_(going, group)] = answers[i][np.ix_(going, group)]
    return out


def noise_of(values: np.ndarray) -> np.ndarray:
    """(D,) robust standard deviation of the frame-to-frame noise of (T, D), from third differences."""
    if len(values) < 5:
        return np.full(values.shape[1], 1e-9)
    third = np.abs(np.diff(values, 3, axis=0))
    return 1.4826 * np.median(third, 0) / np.sqrt(20) + 1e-9


def without_spikes(values: np.ndarray) -> np.ndarray:
    """(T, D) with the frames that are `spikes` replaced by the median of five neighbours."""
    return np.where(spikes(values)[:, None], _median_of_five(values), values)


def spikes(values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """(T,) whether a frame of (T, D) lies alone, much farther off than values usually move in one frame.

    Args:
        values: (T, D).
        least: how far off it must lie in any case.
    """
    if len(values) < 5:
        return np.zeros(len(values), bool)
    usual = np.median(np.abs(np.diff(values, axis=0)), 0) + 1e-9
    away = np.abs(values - _median_of_five(values))
    # What leaves and does not come back within two frames is a movement.
    around = np.pad(values, [(2, 2), (0, 0)], mode="edge")
    pairs = ((1, 3), (0, 3), (1, 4))
    step = np.min([np.abs(around[a : a + len(values)] - around[b : b + len(values)]) for a, b in pairs], 0)
    return ((away > np.maximum(8 * usual, least)) & (step < away / 2)).any(1)


def _median_of_five(values: np.ndarray) -> np.ndarray:
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0), -1)


def _half_windows(fps: float, longest: int) -> list[int]:
    if fps < _LEAST_FPS:
        return []
    halves = (max(2, round(half * fps / _AT_FPS)) for half in _HALF_WINDOWS if half <= longest)
    return sorted(set(halves))


def _weights(half: int) -> np.ndarray:
    """(W, W) values of a parabola at each of W frames, from least squares over the same frames."""
    powers = np.vander(np.arange(-half, half + 1), 3, increasing=True).astype(np.float64)
    return powers @ np.linalg.pinv(powers)


def _parabola(values: np.ndarray, half: int) -> np.ndarray:
    """Each frame's value on the parabola of its window; near the ends, on that of the outermost window."""
    weights, width = _weights(half), 2 * half + 1
    out = np.empty(values.shape)
    out[half : len(values) - half] = (
        np.lib.stride_tricks.sliding_window_view(values, width, axis=0) @ weights[half]
    )
    out[:half] = weights[:half] @ values[:width]
    out[len(values) - half :] = weights[half + 1 :] @ values[-width:]
    return out

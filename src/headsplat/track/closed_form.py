"""Closed-form matting and the colours of what was cut out, by a compiled kernel."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from headsplat.errors import HeadsplatError

_EPSILON = 1e-7
"""Of the colours' covariance in a window: how far they may leave a line."""
_TOLERANCE = 1e-7
"""Residual over right-hand side at which the solution is taken."""
_MOST_STEPS = 10_000


def closed_form_matte(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Opacity of a person where a coarse segmentation leaves it open (Levin, Lischinski, Weiss 2008).

    Args:
        image: (H, W, 3) 0..1.
        trimap: (H, W) 1 = surely the person, 0 = surely not, anything between = to be decided.

    Returns:
        (H, W) float64 0..1, the trimap where that is decided.

    Raises:
        HeadsplatError: shapes that do not fit together, under 3 pixels, or colours that are not
            numbers.
    """
    kernel = _kernel()
    alpha = np.array(trimap, np.float64, order="C")
    if alpha.ndim != 2 or image.shape != (*alpha.shape, 3) or min(alpha.shape) < 3:
        raise HeadsplatError(
            f"Cannot cut a picture of shape {image.shape} by a trimap of shape {alpha.shape}; give (H, W, 3) "
            "and (H, W), both at least 3."
        )
    if not kernel.solve(_floats(image), alpha, _EPSILON, _TOLERANCE, _MOST_STEPS):
        raise HeadsplatError("The person cannot be cut out of the picture; save it again as PNG or JPEG.")
    return np.clip(alpha, 0, 1)


def own_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours of the person alone where she and the backdrop mix, by several levels (Germer et al. 2020).

    Args:
        image: (H, W, 3) 0..1.
        alpha: (H, W) opacity 0..1.

    Returns:
        (H, W, 3) float32 0..1; where nothing of the person is seen, colours that continue hers.

    Raises:
        HeadsplatError: shapes that do not fit together.
    """
    kernel = _kernel()
    if alpha.ndim != 2 or image.shape != (*alpha.shape, 3) or not alpha.size:
        raise HeadsplatError(
            f"A picture of shape {image.shape} and a matte of shape {alpha.shape} do not belong together; "
            "give (H, W, 3) and (H, W)."
        )
    out = np.empty(image.shape, np.float32)
    kernel.own_colours(_floats(image), _floats(alpha), out)
    return out


def _floats(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _kernel() -> ModuleType:
    try:
        from headsplat.track import _matting
    except ImportError as error:
        raise HeadsplatError(
            "The compiled matting is missing; install headsplat with `pip install .` "
            f"(or `pip install -e . --no-build-isolation` for development). [{error}]"
        ) from error
    return _matting

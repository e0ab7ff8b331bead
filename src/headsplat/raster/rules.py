"""The compositing rules in which Gaussian rasterizers differ, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.errors import HeadsplatError


@dataclass(frozen=True)
class Rules:
    """How Gaussians become pixels; the defaults are those of 3D Gaussian Splatting (Kerbl et al. 2023).

    Attributes:
        alpha_max: a splat covers at most this much of a pixel.
        alpha_min: samples that cover less are skipped.
        transmittance_min: a pixel is closed before the splat that would bring its transmittance under this.
        eps2d: added to both variances of the projected covariance, pixels squared.
        near: Gaussians at this camera depth or nearer are not drawn, metres.
        direction_margin: the Jacobian is taken inside the field of view widened on each side by this fraction
            of half the image, so that Gaussians far outside do not blow up.
    """

    alpha_max: float = 0.99
    alpha_min: float = 1 / 255
    transmittance_min: float = 1e-4
    eps2d: float = 0.3
    near: float = 0.2
    direction_margin: float = 0.3

    def __post_init__(self) -> None:
        """Refuse rules under which renderers would divide by zero or disagree.

        Raises:
            HeadsplatError: a number out of its range.
        """
        ranges = {
            "alpha_max": 0 < self.alpha_max < 1,
            "alpha_min": 0 < self.alpha_min < self.alpha_max,
            "transmittance_min": 0 <= self.transmittance_min < 1,
            "eps2d": 0 <= self.eps2d < float("inf"),
            "near": 0 <= self.near < float("inf"),
            "direction_margin": 0 <= self.direction_margin < float("inf"),
        }
        wrong = [name for name, right in ranges.items() if not right]
        if wrong:
            raise HeadsplatError(
                f"The rules have {wrong[0]} = {getattr(self, wrong[0])}, which makes no picture; "
                "start from headsplat.raster.THREE_DGS."
            )

    def as_array(self) -> np.ndarray:
        """(6,) float32, in the order of the attributes."""
        return np.array(
            [
                self.alpha_max,
                self.alpha_min,
                self.transmittance_min,
                self.eps2d,
                self.near,
                self.direction_margin,
            ],
            np.float32,
        )


THREE_DGS = Rules()
# gsplat 1.5 as documented and observed: a higher clamp and a nearer plane, otherwise the same.
GSPLAT = Rules(alpha_max=0.999, near=0.01)

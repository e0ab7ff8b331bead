"""Settings of lift: how many Gaussians, how long to refine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiftConfig:
    """Settings of one reconstruction.

    Attributes:
        refine: gradient steps on the Gaussians that the photo shows; 0 keeps the lifted ones.
        face_area: square metres of template skin per Gaussian in the face; scalp, neck and mouth are coarser.
        pixel_step: every how many pixels of a 512-pixel frame hair and clothes are lifted into a Gaussian.
        strands: Gaussians of loose hair strands where the photo shows none.
        shell_area: square metres of hair volume per Gaussian of the opaque layer beneath the strands.
        seed: of every random draw; the same photo and settings give the same avatar.
    """

    refine: int = 40
    face_area: float = 2.0e-6
    pixel_step: float = 2.0
    strands: int = 14_000
    shell_area: float = 8.0e-6
    seed: int = 0


def lift_80k(refine: int = 40) -> LiftConfig:
    """About 80,000 Gaussians: the default, sharp at 512 pixels and beyond."""
    return LiftConfig(refine=refine)


def lift_20k(refine: int = 40) -> LiftConfig:
    """About 20,000 Gaussians: for phones and crowds."""
    return LiftConfig(refine=refine, face_area=8.0e-6, pixel_step=4.0, strands=3_500, shell_area=2.4e-5)


def lift_5k(refine: int = 40) -> LiftConfig:
    """About 5,000 Gaussians: thumbnails and very small devices; features are soft."""
    return LiftConfig(refine=refine, face_area=3.2e-5, pixel_step=8.0, strands=900, shell_area=8.0e-5)

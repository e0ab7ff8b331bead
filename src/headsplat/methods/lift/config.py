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

    refine: int = 80
    face_area: float = 2.4e-6
    pixel_step: float = 2.2
    strands: int = 12_000
    shell_area: float = 1.0e-5
    seed: int = 0


def lift_80k(refine: int = 80) -> LiftConfig:
    """About 80,000 Gaussians: the default, sharp at 512 pixels and beyond."""
    return LiftConfig(refine=refine)


def lift_20k(refine: int = 80) -> LiftConfig:
    """About 20,000 Gaussians: for phones and crowds."""
    return LiftConfig(refine=refine, face_area=1.3e-5, pixel_step=4.6, strands=2_600, shell_area=3.5e-5)


def lift_5k(refine: int = 80) -> LiftConfig:
    """About 5,000 Gaussians: thumbnails and very small devices; features are soft."""
    return LiftConfig(refine=refine, face_area=7.0e-5, pixel_step=11.0, strands=500, shell_area=1.6e-4)

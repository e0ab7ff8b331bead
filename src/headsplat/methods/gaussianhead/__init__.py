"""GaussianHead (Wang et al. 2023): one person's video to Gaussians, a deformation field and a tri-plane."""

from __future__ import annotations

from headsplat.methods.gaussianhead.config import GaussianHeadConfig, paper, released, small

__all__ = ["GaussianHeadConfig", "paper", "released", "small"]

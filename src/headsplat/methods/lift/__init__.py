"""lift: one or more photos to an animatable head, with no training and no network.

The head model is fitted to the photo; Gaussians on its surface take the photo's colours, hair gets a volume
that meets the matte's outline, clothes a sheet; refinement then polishes what the photo shows. See README.md.
"""

from __future__ import annotations

from headsplat.methods.lift.config import LiftConfig, lift_5k, lift_20k, lift_80k
from headsplat.methods.lift.model import reconstruct
from headsplat.methods.lift.renew import renew

__all__ = ["LiftConfig", "lift_5k", "lift_20k", "lift_80k", "reconstruct", "renew"]

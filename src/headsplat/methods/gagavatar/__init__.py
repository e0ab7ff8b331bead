"""GAGAvatar (NeurIPS 2024): one photo lifted to Gaussians, expressions from a head model, a neural renderer.

The network has 170 M parameters as released; `small` trains on a CPU. See README.md.
"""

from __future__ import annotations

from headsplat.methods.gagavatar.config import GagavatarConfig, official, ours, small
from headsplat.methods.gagavatar.create import avatar_of, reconstruct
from headsplat.methods.gagavatar.flame import load_flame_with_eye
from headsplat.methods.gagavatar.weights import load_gagavatar, save_gagavatar

__all__ = [
    "GagavatarConfig",
    "avatar_of",
    "load_flame_with_eye",
    "load_gagavatar",
    "official",
    "ours",
    "reconstruct",
    "save_gagavatar",
    "small",
]

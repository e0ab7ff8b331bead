"""LAM (SIGGRAPH 2025): a head from one photo in one forward pass, with the released weights or your own.

The network has 558 M parameters as released; `small` trains on a CPU. See README.md.
"""

from __future__ import annotations

from headsplat.methods.lam.config import LamConfig, lam_5k, paper, released_20k, small
from headsplat.methods.lam.create import create_avatar, reconstruct
from headsplat.methods.lam.weights import load_lam, save_lam

__all__ = [
    "LamConfig",
    "create_avatar",
    "lam_5k",
    "load_lam",
    "paper",
    "reconstruct",
    "released_20k",
    "save_lam",
    "small",
]

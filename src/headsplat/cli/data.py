"""Verbs about files: info."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from headsplat.cli.app import app
from headsplat.terminal import finish


@app.command
def info(avatar: Positional[Path], *, json: bool = False) -> None:
    """Say what is in an avatar file.

    Args:
        avatar: the .avatar file.
        json: print one machine-readable line last.
    """
    import numpy as np

    from headsplat.avatar_file import load_avatar

    a = load_avatar(avatar)
    networks = {"deformer": a.deformer, "refiner": a.refiner}
    moved = np.diff(a.expression_means.starts).tolist()
    facts = {
        "avatar": str(avatar),
        "bytes": avatar.stat().st_size,
        "gaussians": len(a),
        "channels": int(a.gaussians.features.shape[1]),
        "method": a.method,
        "source": a.source,
        "joints": list(a.joints),
        "expressions": dict(zip(a.expressions, moved, strict=True)),
        "networks": {role: n.kind for role, n in networks.items() if n is not None},
        "seen": round(float(a.seen.mean()), 4),
        "view_target": [round(float(v), 5) for v in a.view_target],
        "view_height": a.view_height,
        "info": a.info,
    }
    lines = [
        f"{avatar}: {len(a):,} Gaussians, {facts['bytes'] / 1e6:.2f} MB, by {a.method or 'nobody knows'}",
        f"  joints       {', '.join(a.joints) or 'none'}",
        f"  expressions  {', '.join(a.expressions) or 'none'}",
        *(f"  {role:<12} {kind}, a network per frame" for role, kind in facts["networks"].items()),
        f"  seen         {facts['seen']:.0%} of it was in the photo",
        *(f"  {key:<12} {value}" for key, value in a.info.items()),
    ]
    finish(facts, "\n".join(lines), json)

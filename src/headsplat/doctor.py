"""What is installed, which back ends work, and how fast this machine draws."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians

# Package -> what it is needed for.
PACKAGES = {
    "numpy": "everything",
    "av": "videos",
    "pillow": "pictures",
    "mediapipe": "create: finding the face",
    "opencv-contrib-python": "create: warping pictures",
    "scipy": "create: fitting",
    "scikit-image": "demo: the portrait",
    "pi-heif": "photos of iPhones (HEIC)",
    "starlette": "view and studio: the local pages",
    "torch": "gradients, training, CUDA",
    "gsplat": "drawing on an NVIDIA GPU",
}


def examine(seconds: float = 1.0) -> dict[str, Any]:
    """Look at this installation.

    Args:
        seconds: how long to measure drawing speed.

    Returns:
        `headsplat`, `python`, `platform`, `cpus`; `packages`: name to version or None; `backends`: name to
        "works" or why not; `speed`: what was measured and `fps`, or None without a working back end.
    """
    versions = {name: _version(name) for name in PACKAGES}
    backends: dict[str, str] = {"cuda": _cuda()}
    speed = None
    try:
        from headsplat.raster import cpu

        speed = _measure(seconds)
        backends = {"cpu": f"works ({cpu.isa()}, {cpu.threads()} threads)", **backends}
    except HeadsplatError as error:
        backends = {"cpu": str(error), **backends}
    from headsplat import __version__

    return {
        "headsplat": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": versions,
        "backends": backends,
        "speed": speed,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda() -> str:
    """Whether gsplat can draw here; asks torch only if gsplat is installed."""
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat is not installed (pip install 'headsplat[cuda]' on a machine with an NVIDIA GPU)"
    import torch

    return f"works ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "no CUDA GPU"


def _measure(seconds: float) -> dict[str, Any]:
    """Frames per second of a head-sized cloud of 20,000 Gaussians at 512 x 512."""
    from headsplat.raster import rasterize

    rng, count = np.random.default_rng(0), 20_000
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cloud = Gaussians(
        (directions * [0.08, 0.12, 0.10]).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.uniform(5e-4, 2.5e-3, (count, 3)).astype(np.float32),
        np.full(count, 0.9, np.float32),
        rng.uniform(0, 1, (count, 3)).astype(np.float32),
    )
    camera, times = Camera.orbit(), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        rasterize(cloud, camera, depth=False)
        times.append(time.perf_counter() - start)
    return {
        "what": f"{count} Gaussians at 512 x 512, CPU",
        "fps": round(1 / float(np.median(times)), 1),
        "fastest_fps": round(1 / min(times), 1),
    }


def describe(report: dict[str, Any]) -> str:
    """The report for reading."""
    lines = [
        f"headsplat {report['headsplat']}, Python {report['python']}, {report['platform']}, "
        f"{report['cpus']} processors",
        "",
        *(
            f"  {name:<24}{version or 'not installed':<16}{PACKAGES[name]}"
            for name, version in report["packages"].items()
        ),
        "",
        *(f"  draws on {name:<15}{state}" for name, state in report["backends"].items()),
    ]
    if report["speed"]:
        speed = report["speed"]
        lines.append(f"  speed                   {speed['fps']:.0f} frames per second ({speed['what']})")
    missing = [name for name, version in report["packages"].items() if version is None]
    if {"mediapipe", "scipy", "opencv-contrib-python"} & set(missing):
        lines += ["", "To make avatars: pip install 'headsplat[create]'."]
    if sys.version_info >= (3, 13):
        lines += ["", "mediapipe needs Python 3.11 or 3.12 to make avatars; playing them works here."]
    return "\n".join(lines)

"""How long a photo takes to become an avatar, and how much memory the usual jobs need."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench_scenes as scenes
from headsplat.evaluate.bench_rows import Row, rows_of


def create(photo: Path | None = None, repeats: int = 3) -> list[Row]:
    """A photo into a `lift` avatar of each size, models loaded: tracking and reconstruction in one figure."""
    try:
        from headsplat.data.image import read_image
        from headsplat.methods import lift
        from headsplat.track import track_photo

        if photo is None:
            from skimage.data import astronaut

            image = astronaut().astype(np.float32) / 255
        else:
            image = read_image(photo)
    except ImportError as error:
        raise HeadsplatError(
            f"`create` needs more packages ({error.name}); pip install 'headsplat[create]'."
        ) from None
    rows = []
    track_photo(image)
    for config in (lift.lift_5k(), lift.lift_20k(), lift.lift_80k()):
        times, count = [], 0
        for _ in range(repeats):
            start = time.perf_counter()
            count = len(lift.reconstruct(track_photo(image), config))
            times.append((time.perf_counter() - start) * 1e3)
        rows += rows_of(
            {"lift": np.array(times)},
            None,
            {},
            bench="create",
            scene="photo" if photo else "astronaut",
            gaussians=count,
            channels=3,
            size=512,
            pass_="forward",
        )
    return rows


MEMORY_JOBS = {
    "import headsplat": "import headsplat",
    "animate and draw": (
        "from headsplat.evaluate import bench_scenes as s; from headsplat.raster.rig import RigRenderer\n"
        "a = s.rig({count}); r = RigRenderer(a)\n"
        "for p, v in zip(s.poses(a, 12), s.cameras()): r.render(*p, v)"
    ),
    "draw with gradients": (
        "import numpy as np; from headsplat.raster import cpu\n"
        "from headsplat.evaluate import bench_scenes as s\n"
        "c = s.cloud({count}); g = np.ones((512, 512, 3), np.float32)\n"
        "for v in s.cameras(): cpu.backward(cpu.forward(c, v), g)"
    ),
}


def memory(count: int = scenes.LAM_80K) -> list[Row]:
    """Peak resident memory of fresh processes at the usual jobs (`peak_mb`), and how long they took."""
    rows = []
    for name, code in MEMORY_JOBS.items():
        script = code.format(count=count) + "\nfrom headsplat.evaluate import peak; print(peak.megabytes())"
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        elapsed = (time.perf_counter() - start) * 1e3
        rows += rows_of(
            {name: np.array([elapsed])},
            None,
            {},
            extra={name: {"peak_mb": round(float(done.stdout.split()[-1]), 1)}},
            bench="memory",
            scene="ellipsoid",
            gaussians=count if "count" in code else 0,
            channels=3,
            size=512,
            pass_="forward+backward" if "gradients" in name else "forward",
        )
    return rows

"""Peak memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def megabytes() -> float:
    """Largest resident size so far.

    On Linux by the kernel's own count of this program: getrusage begins with the size of the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    import resource  # not on Windows

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, kilobytes elsewhere

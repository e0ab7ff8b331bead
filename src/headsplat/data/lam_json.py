"""The motion JSON of LAM's web player and audio-to-expression tools: names, and frames of weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.gaussians import quat_to_axis_angle
from headsplat.head.arkit import ARKIT
from headsplat.motion import Motion, head_turn, split_head_turn
from headsplat.takes import JOINTS, eye_turns


def read_lam_json(path: str | os.PathLike[str]) -> Motion:
    """Read `{"names": [...], "frames": [{"weights": [...], "time": s, "rotation": [...]}]}`.

    Names may stand under metadata.blendshape_names instead. A rotation is the head's: nothing, a rotation
    vector in radians (3), or a quaternion xyzw (4).

    Raises:
        HeadsplatError: missing, not JSON, not such a motion, or numbers that are not finite.
    """
    name = Path(path).name
    try:
        data = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise HeadsplatError(f"There is no file {path}; check the name.") from error
    except OSError as error:
        raise HeadsplatError(f"Cannot read {name} ({error.strerror}); check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise HeadsplatError(f"{name} is not JSON; give a motion file with names and frames.") from error
    try:
        return _decode(data, name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise HeadsplatError(
            f"{name} is not a motion: it needs names, and frames with one weight per name; export it again."
        ) from error


def write_lam_json(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write a motion in that form; the head's turn goes along, eye turns only as eyeLook weights.

    Raises:
        HeadsplatError: `path` cannot be written.
    """
    turns = head_turn(motion)
    frames = [
        {
            "weights": [round(float(w), 5) for w in weights],
            "time": round(t / motion.fps, 6),
            "rotation": [round(float(r), 6) for r in turn],
        }
        for t, (weights, turn) in enumerate(zip(motion.weights, turns, strict=True))
    ]
    data = {
        "names": list(motion.expressions),
        "metadata": {"fps": motion.fps, "frame_count": len(frames)},
        "frames": frames,
    }
    with writing(path) as temporary:
        temporary.write_text(json.dumps(data, separators=(",", ":")))


def _decode(data: Any, name: str) -> Motion:
    metadata = data.get("metadata", {})
    given = data.get("names") or metadata["blendshape_names"]
    canonical = {e.lower(): e for e in ARKIT}
    names = tuple(canonical.get(str(n).lower(), str(n)) for n in given)
    frames = data["frames"]
    weights = np.array([frame["weights"] for frame in frames], np.float64).reshape(len(frames), len(names))
    rotations = np.zeros((len(frames), len(JOINTS), 3))
    head = np.stack([_head(frame.get("rotation") or []) for frame in frames]) if frames else np.zeros((0, 3))
    rotations[:, 0], rotations[:, 1] = split_head_turn(head)
    rotations[:, 2], rotations[:, 3] = eye_turns(names, weights)
    if "fps" in metadata:
        fps = float(metadata["fps"])
    else:
        times = np.array([frame.get("time", i / 30) for i, frame in enumerate(frames)], np.float64)
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / 30
        fps = 1 / step if step > 0 else 30.0
    motion = Motion(weights.astype(np.float32), names, rotations.astype(np.float32), JOINTS, fps)
    return motion.check(name)


def _head(rotation: list[float]) -> np.ndarray:
    values = np.array(rotation, np.float64)
    if len(values) == 4:
        if not np.linalg.norm(values) > 1e-6:
            return np.zeros(3)
        return quat_to_axis_angle((values / np.linalg.norm(values))[[3, 0, 1, 2]])
    return values.reshape(3) if len(values) else np.zeros(3)

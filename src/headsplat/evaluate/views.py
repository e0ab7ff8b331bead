"""Pictures of one head from known cameras: the layout on disk that the `novel` protocol reads.

A folder per person with `views.json` and its pictures; docs/benchmark.md describes the fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.files import writing

VIEWS_FILE = "views.json"
VIEWS_VERSION = 1


@dataclass(frozen=True)
class View:
    """One picture from a known camera.

    Attributes:
        picture: file name, RGB.
        matte: file name, grey: how much of a pixel is the person.
        viewmat: (4, 4) nested lists, world to camera, OpenCV axes.
        K: (3, 3) nested lists, pixels.
        width: pixels.
        height: pixels.
        yaw: degrees from the face's front to the camera, to the subject's left.
        expression: weights by ARKit name; empty = neutral.
        seen: file name, grey: what of the person the source view sees too; "" if unknown.
    """

    picture: str
    matte: str
    viewmat: list[list[float]]
    K: list[list[float]]
    width: int
    height: int
    yaw: float
    expression: dict[str, float]
    seen: str = ""

    @property
    def camera(self) -> Camera:
        """The view's camera."""
        return Camera(
            np.array(self.viewmat, np.float64), np.array(self.K, np.float64), self.width, self.height
        )


@dataclass(frozen=True)
class ViewSet:
    """All views of one person, whose head keeps still.

    Attributes:
        source: index of the view that methods may look at.
        points: (468, 3) nested lists: MediaPipe's face points in the world of the cameras, in the source's
            expression.
        views: all pictures.
    """

    source: int
    points: list[list[float]]
    views: tuple[View, ...]

    def save(self, folder: Path) -> None:
        """Write `views.json` into a folder."""
        with writing(folder / VIEWS_FILE) as temporary:
            temporary.write_text(json.dumps({"version": VIEWS_VERSION} | asdict(self)) + "\n")


@cache
def read_views(path: Path) -> ViewSet:
    """Read a `views.json`.

    Raises:
        HeadsplatError: missing or not of this layout.
    """
    try:
        values = json.loads(path.read_text())
        if values.pop("version") != VIEWS_VERSION:
            raise ValueError("version")
        views = ViewSet(values["source"], values["points"], tuple(View(**v) for v in values["views"]))
        if np.shape(views.points) != (468, 3) or not 0 <= views.source < len(views.views):
            raise ValueError("points or source")
        return views
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is no list of views as docs/benchmark.md describes it ({error}); write it anew."
        ) from error


def camera_through(camera: Camera, similarity: np.ndarray) -> Camera:
    """The camera that sees a point as `camera` sees its image under a similarity (4, 4)."""
    scale = np.cbrt(np.linalg.det(similarity[:3, :3]))
    viewmat = np.asarray(camera.viewmat, np.float64) @ similarity
    viewmat[:3] /= scale
    return Camera(viewmat.astype(np.float32), np.asarray(camera.K, np.float32), camera.width, camera.height)

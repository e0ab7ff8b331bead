"""What the photo shows of the fitted head: projections, visibility, face axes and landmark masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.model import HeadModel
from headsplat.head.regions import Regions, find_regions
from headsplat.methods.lift.numeric import fill_hull, fill_polygon, unit
from headsplat.raster.mesh import rasterize_mesh

# MediaPipe FaceMesh point numbers; right and left are the subject's.
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
FOREHEAD, CHIN, BETWEEN_EYES, UPPER_LIP, LOWER_LIP = 10, 152, 168, 13, 14


@dataclass(frozen=True)
class View:
    """One frame seen through the head model.

    V vertices, J joints, H x W pixels. "Rest" is the fitted identity, neutral, no joint turned.

    Attributes:
        frame: the tracked photo.
        model: the head model.
        regions: its regions.
        rest: (V, 3) vertices at rest, metres.
        joints: (J, 3) joint positions at rest.
        posed: (V, 3) vertices in the photo's expression and pose.
        skin: (J, 4, 4) world from rest of each joint in the photo's pose.
        pixels: (V, 3) posed vertices: x, y in pixels and camera depth in metres.
        facing: (V,) cosine between the skin's normal and the direction to the camera.
        faces: (F', 3) faces that hide others (all but lashes).
        depth: (H, W) camera depth of the mesh, inf where it is not.
        face: (H, W) int32 index into `faces`, -1 where the mesh is not.
        barycentric: (H, W, 3).
        size: pixels from landmark 10 (top of the forehead) to 152 (chin).
        height: (H, W) position along the face axis in units of `size`: chin 0, top of the forehead 1.
        side: (H, W) absolute distance from that axis in units of `size`.
        oval: (H, W) uint8 the face oval.
    """

    frame: Frame
    model: HeadModel
    regions: Regions
    rest: np.ndarray
    joints: np.ndarray
    posed: np.ndarray
    skin: np.ndarray
    pixels: np.ndarray
    facing: np.ndarray
    faces: np.ndarray
    depth: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    size: float
    height: np.ndarray
    side: np.ndarray
    oval: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return self.frame.alpha.shape  # type: ignore[return-value]

    @property
    def head_camera(self) -> Camera:
        """The camera seen from the head at rest: what is rigid with the head projects with it from rest."""
        camera = self.frame.camera
        head = self.skin[self.model.joint_names.index("head")]
        return Camera((camera.viewmat @ head).astype(np.float32), camera.K, camera.width, camera.height)

    def per_pixel(self, values: np.ndarray, outside: float) -> np.ndarray:
        """Interpolate per-vertex values (V,) to (H, W); `outside` where the mesh is not."""
        out = np.full(self.shape, outside, np.float32)
        seen = self.face >= 0
        out[seen] = (values[self.faces[self.face[seen]]] * self.barycentric[seen]).sum(-1)
        return out

    def polygon(self, points: tuple[int, ...]) -> np.ndarray:
        """(H, W) uint8 mask of the polygon through the given landmarks."""
        return fill_polygon(self.frame.landmarks[list(points)], *self.shape)

    def hull(self, points: tuple[int, ...]) -> np.ndarray:
        """(H, W) uint8 mask of the convex hull of the given landmarks."""
        return fill_hull(self.frame.landmarks[list(points)], *self.shape)

    @property
    def mirror(self) -> np.ndarray:
        """(V,) the vertex on the other side of the face."""
        assert self.model.mirror is not None
        return self.model.mirror

    @property
    def face_ends(self) -> tuple[float, float]:
        """Heights y at rest of the top of the forehead and of the chin, metres."""
        faces, barycentrics = self.model.landmark_faces, self.model.landmark_barycentrics
        assert faces is not None and barycentrics is not None
        corners = self.rest[self.model.faces[faces[[FOREHEAD, CHIN]]]]
        top, chin = (corners * barycentrics[[FOREHEAD, CHIN]][..., None]).sum(1)[:, 1]
        return float(top), float(chin)

    @property
    def lip_gap(self) -> float:
        """How far the lips are apart, in units of `size`."""
        points = self.frame.landmarks
        return float(np.linalg.norm(points[UPPER_LIP] - points[LOWER_LIP]) / self.size)


def skinning_matrices(
    joints: np.ndarray, parents: np.ndarray, rotations: np.ndarray, T_world_root: np.ndarray
) -> np.ndarray:
    """(J, 4, 4) world-from-rest transform of each joint.

    Args:
        joints: (J, 3) rest positions.
        parents: (J,) parent index, -1 for the root.
        rotations: (J, 3) rotation vectors relative to the parent.
        T_world_root: (4, 4) pose of the whole bust.
    """
    out = np.zeros((len(joints), 4, 4))
    for j, parent in enumerate(parents):
        turn = np.eye(4)
        turn[:3, :3] = axis_angle_to_matrix(np.asarray(rotations[j], np.float64))
        turn[:3, 3] = joints[j] - turn[:3, :3] @ joints[j]
        out[j] = (np.asarray(T_world_root, np.float64) if parent < 0 else out[parent]) @ turn
    return out


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, faces weighted by area; zero where no face touches."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, d], 3), len(vertices)) for d in range(3)], -1
    )
    return unit(out)


def look_at_photo(frame: Frame, model: HeadModel, correction: np.ndarray | None = None) -> View:
    """Pose the head model as the frame says and see what of it the photo shows.

    Args:
        frame: the tracked photo.
        model: the head model it was fitted with.
        correction: (V, 3) metres by which this person differs from the fitted identity; at rest, rigid with
            the head.
    """
    if model.mirror is None or model.landmark_faces is None:
        raise HeadsplatError("lift needs a head model with a mirror map and landmarks; use the free head.")
    regions = find_regions(model)
    shaped = model.with_shape(frame.shape)
    posed = np.asarray(
        shaped.with_pose(frame.expression, frame.rotations, frame.T_world_root).vertices, np.float64
    )
    rest = np.asarray(shaped.vertices, np.float64)
    skin = skinning_matrices(shaped.joints, model.parents, frame.rotations, frame.T_world_root)
    if correction is not None:
        rest = rest + correction
        posed = posed + correction @ skin[model.joint_names.index("head"), :3, :3].T
    camera = frame.camera
    pixels = camera.project(posed)
    normals = vertex_normals(posed, model.faces[regions.skin_faces])
    facing = (normals * unit(camera.position - posed)).sum(1)
    solid = model.faces[~regions.faces(model, "lashes")]
    depth, face, barycentric = rasterize_mesh(pixels.astype(np.float32), solid, camera.width, camera.height)

    points = frame.landmarks
    axis = points[FOREHEAD] - points[CHIN]
    size = float(np.linalg.norm(axis))
    up = axis / size
    y, x = np.mgrid[: camera.height, : camera.width].astype(np.float32) + 0.5
    x, y = x - points[CHIN, 0], y - points[CHIN, 1]
    return View(
        frame=frame,
        model=model,
        regions=regions,
        rest=rest,
        joints=np.asarray(shaped.joints, np.float64),
        posed=posed,
        skin=skin,
        pixels=pixels,
        facing=facing,
        faces=solid,
        depth=depth,
        face=face,
        barycentric=barycentric,
        size=size,
        height=((x * up[0] + y * up[1]) / size).astype(np.float32),
        side=(abs(x * up[1] - y * up[0]) / size).astype(np.float32),
        oval=fill_hull(points[list(OVAL)], camera.height, camera.width),
    )


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Dilate (positive) or erode (negative) a mask by a square of side 2 |pixels| + 1."""
    kernel = np.ones((2 * abs(pixels) + 1,) * 2, np.uint8)
    return (cv2.dilate if pixels > 0 else cv2.erode)(mask.astype(np.uint8), kernel)

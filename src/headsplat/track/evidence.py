"""What a picture says about the pose and expression of its person's avatar: light, and face points.

Both are rows of a Gauss-Newton step over the head's turn (3), its place (3) and the fitted expressions (X).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.track import landmarks as lm
from headsplat.track import priors
from headsplat.track.likeness import Likeness, Posture, jacobian

_GREY = 0.38
"""Behind the drawn avatar; pictures are compared inside the face only."""
_SHADES = 0.044
"""What is wider than this share of the face's height is shade, not structure."""
_MARGIN = 0.2
"""Of the window around the face points that is drawn and compared, as a share of the face's height."""
_INSET = 0.011
"""The rim of the face is left out by this share of its height: hair and outline are not registered there."""
_DEPTH = 0.003
"""A Gaussian further behind the drawn surface than this is hidden; metres."""
_CROWD = 3000
"""More points than these weigh no more: neighbours repeat each other."""
_MOST = 6000
_POINT_SIGMA = 0.006
"""Standard deviation of a detected point against the same detector on the drawn face, as a share of the
distance of the outer eye corners."""
_ROBUST_LIGHT = 30.0
"""Squared residual, in median deviations, at which a point's vote is halved."""


@dataclass(frozen=True)
class Picture:
    """What the avatar is compared with.

    Attributes:
        image: (H, W, 3) float32 0..1.
        inside: (H, W) bool, pixels that show the person and nothing else.
        landmarks: (478, 2) detected points, pixels.
    """

    image: np.ndarray
    inside: np.ndarray
    landmarks: np.ndarray

    @staticmethod
    def of_frame(frame: Frame) -> Picture:
        """The picture of a tracked frame."""
        return Picture(frame.foreground, (frame.alpha > 0.9) & frame.valid, frame.landmarks)


@dataclass(frozen=True)
class Blurred:
    """A picture blurred by `sigma` pixels, and its slopes per pixel; (H, W, 3) each."""

    sigma: float
    image: np.ndarray
    by_x: np.ndarray
    by_y: np.ndarray

    @staticmethod
    def of(image: np.ndarray, sigma: float) -> Blurred:
        """Blur a picture."""
        import cv2

        soft = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image
        by_x = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=1 / 8)
        return Blurred(sigma, soft, by_x, cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=1 / 8))


@dataclass(frozen=True)
class Scene:
    """The window of a picture in which it is compared, at working size.

    Attributes:
        structure: (h, w, 3) the picture without slow shades.
        face: (h, w) bool, where it is compared.
        landmarks: (478, 2) in pixels of the window.
        scale: (2,) pixels of the window per pixel of the picture.
        corner: (2,) of the window, pixels of the picture.
        size: width and height of the window in pixels of the picture.
    """

    structure: np.ndarray
    face: np.ndarray
    landmarks: np.ndarray
    scale: np.ndarray
    corner: np.ndarray
    size: tuple[int, int]

    @staticmethod
    def of(picture: Picture, camera: Camera, tallest: int) -> Scene:
        """The window around a face, shrunk if the face is higher than `tallest` pixels."""
        import cv2

        height = lm.face_height(picture.landmarks)
        limits = np.array([camera.width, camera.height])
        corner = np.clip(picture.landmarks.min(0) - _MARGIN * height, 0, limits - 2).astype(int)
        far = np.clip(np.ceil(picture.landmarks.max(0) + _MARGIN * height), corner + 2, limits).astype(int)
        size = (int(far[0] - corner[0]), int(far[1] - corner[1]))
        scale = min(1.0, tallest / height)
        small = (max(2, round(size[0] * scale)), max(2, round(size[1] * scale)))
        part = (slice(corner[1], far[1]), slice(corner[0], far[0]))
        image, inside = picture.image[part], picture.inside[part].astype(np.uint8)
        ratio = np.array(small) / size
        landmarks = (picture.landmarks - corner) * ratio
        if small != size:
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            inside = cv2.resize(inside, small, interpolation=cv2.INTER_NEAREST)
        hull = cv2.convexHull(landmarks[: lm.MESH].astype(np.int32))
        face = cv2.fillConvexPoly(np.zeros(small[::-1], np.uint8), hull, (1,)) * inside
        reach = 2 * max(1, round(_INSET * height * scale)) + 1
        face = cv2.erode(face, np.ones((reach, reach), np.uint8)) > 0
        structure = _structure(np.ascontiguousarray(image, np.float32), height * scale)
        return Scene(structure, face, landmarks, ratio, corner, size)

    def camera(self, camera: Camera) -> Camera:
        """The picture's camera for the window."""
        x, y = self.corner
        shape = self.face.shape
        return camera.crop(float(x), float(y), *self.size).resize(shape[1], shape[0])

    def to_window(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of the picture in the window."""
        return (pixels - self.corner) * self.scale

    def structure_of(self, image: np.ndarray) -> np.ndarray:
        """A drawn window without slow shades."""
        return _structure(image, lm.face_height(self.landmarks))

    def difference(self, likeness: Likeness, posture: Posture) -> float:
        """Mean absolute difference to the drawn avatar inside the face."""
        if not self.face.any():
            return 0.0
        drawn = likeness.draw(posture, self.camera(posture.camera), _GREY).image
        return float(np.abs(self.structure_of(drawn) - self.structure)[self.face].mean())


def _structure(image: np.ndarray, height: float) -> np.ndarray:
    """A picture (H, W, 3) without its slow shades, for a face of `height` pixels."""
    import cv2

    return image - cv2.GaussianBlur(image, (0, 0), _SHADES * height)


@dataclass(frozen=True)
class Normal:
    """Normal equations over turn (3), place (3) and X expressions, summed in place."""

    matrix: np.ndarray
    vector: np.ndarray

    def add(self, jacobian: np.ndarray, residual: np.ndarray, weight: float = 1.0) -> None:
        """Add weighted rows: `jacobian` (R, 6 + X) towards `residual` (R,)."""
        self.matrix[...] += weight * (jacobian.T @ jacobian)
        self.vector[...] += weight * (jacobian.T @ residual)


def add_light(
    normal: Normal,
    likeness: Likeness,
    posture: Posture,
    scene: Scene,
    picture: Blurred,
    camera: Camera,
    rotation: np.ndarray,
    translation: np.ndarray,
    weights: np.ndarray,
    strength: float,
) -> None:
    """Add what the visible Gaussians of the face say."""
    K = np.asarray(camera.K, np.float32)
    drawn = likeness.draw(posture, camera, _GREY)
    assert drawn.depth is not None
    at = likeness.surface.at(weights) @ rotation.T.astype(np.float32) + translation.astype(np.float32)
    focals = np.diag(K)[:2]
    pixels = focals * at[:, :2] / at[:, 2:] + K[:2, 2]
    column, row = np.floor(pixels).astype(int).T
    height, width = scene.face.shape
    usable = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    surface = drawn.depth[row, column] / np.maximum(drawn.alpha[row, column], 1e-3)
    usable &= scene.face[row, column] & (np.abs(surface - at[:, 2]) < _DEPTH)
    chosen = np.flatnonzero(usable)
    if len(chosen) < 50:
        return
    if len(chosen) > _MOST:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST).astype(int)]
    own = Blurred.of(scene.structure_of(drawn.image), picture.sigma)
    wanted, seen = _sample(picture.image, pixels[chosen]), _sample(own.image, pixels[chosen])
    slopes = np.stack(
        [
            _sample(picture.by_x, pixels[chosen]) + _sample(own.by_x, pixels[chosen]),
            _sample(picture.by_y, pixels[chosen]) + _sample(own.by_y, pixels[chosen]),
        ],
        1,
    )
    residual = wanted - _gain(seen, wanted) * seen
    unit = 1.4826 * float(np.median(np.abs(residual))) + 1e-3
    residual, slopes = residual / unit, slopes / (2 * unit)
    vote = 1 / (1 + (residual**2).sum(1) / _ROBUST_LIGHT)
    vote *= strength * min(1.0, _CROWD / len(chosen))
    tensor = np.einsum("pac,pbc,p->pab", slopes, slopes, vote)
    pull = -np.einsum("pac,pc,p->pa", slopes, residual, vote)
    by = jacobian(likeness.surface, chosen, rotation, at[chosen], focals, translation)
    flat = by.reshape(-1, by.shape[-1])
    normal.matrix[...] += flat.T @ (tensor.astype(np.float32) @ by).reshape(flat.shape)
    normal.vector[...] += flat.T @ pull.reshape(-1).astype(np.float32)


def add_points(
    normal: Normal, by: np.ndarray, wanted: np.ndarray, expected: np.ndarray, strength: float
) -> None:
    """Add face points: `expected` (468, 2) should be `wanted` (478, 2); `by` (468, 2, 6 + X)."""
    corners = wanted[lm.OUTER_EYE_RIGHT] - wanted[lm.OUTER_EYE_LEFT]
    unit = 1 / (_POINT_SIGMA * float(np.linalg.norm(corners)))
    residual, by = (wanted[: lm.MESH] - expected) * unit, by * np.float32(unit)
    votes = _votes() / (1 + (residual**2).sum(1) / priors.ROBUST**2) ** 0.25
    rows = (by * votes[:, None, None]).reshape(-1, by.shape[-1]).astype(np.float32)
    normal.add(rows, (residual * votes[:, None]).reshape(-1), strength)
    upper, lower = lm.LIP_PAIRS.T
    pair = np.sqrt(2) * priors.PAIR_WEIGHT
    rows = (by[upper] - by[lower]).reshape(-1, by.shape[-1]) * np.float32(pair)
    normal.add(rows, (residual[upper] - residual[lower]).reshape(-1) * pair, strength)


def _votes() -> np.ndarray:
    """(468,) weight of each face point. The lids have none: drawn lashes are not where real ones are."""
    votes = priors.point_weights().copy()
    votes[np.r_[lm.EYE_RIGHT, lm.EYE_LEFT]] = 0
    return votes


def listen(likeness: Likeness, posture: Posture, landmarks: np.ndarray, scene: Scene) -> np.ndarray:
    """(468, 2) window pixels: where the detector sees the points of the drawn avatar, less where they are."""
    from headsplat.data.image import to_uint8
    from headsplat.track.detect import refine_face

    assert likeness.landmarks is not None
    rotation, translation = likeness.head_in_camera(posture)
    camera = posture.camera
    # The detector sees as much around the face as it saw around the person's.
    drawn = to_uint8(likeness.draw(posture, camera, _GREY).image)
    found = scene.to_window(refine_face(drawn, landmarks)[: lm.MESH])
    at = likeness.landmarks.at(posture.weights[likeness.fitted]) @ rotation.T + translation
    K = np.asarray(scene.camera(camera).K, np.float64)
    return found - (np.diag(K)[:2] * at[:, :2] / at[:, 2:] + K[:2, 2])


def _sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(P, C) linear samples of (H, W, C) at (P, 2) pixels, centres at .5."""
    import cv2

    x, y = (pixels.astype(np.float32) - 0.5).T
    out = cv2.remap(image, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(len(pixels), -1)


def _gain(seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(C,) contrast of each channel of the picture against the drawn one: exposure and white balance."""
    return np.clip((seen * wanted).sum(0) / ((seen**2).sum(0) + 1e-6), 0.8, 1.25)

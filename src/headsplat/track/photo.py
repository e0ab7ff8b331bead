"""One photo into one tracked frame: detect, crop, fit, cut out."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.camera import Camera, intrinsics
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm
from headsplat.track.points import FacePoints
from headsplat.track.solver import Fit

CROP = 2.8
"""Side of the crop over the height of the face: holds an updo and the shoulders, wastes few pixels."""
MAX_YAW = np.radians(65)
MAX_ERROR = 0.03
"""A mean landmark error above this (share of the outer-eye distance) is no face that the model explains."""
_READ_SIZE = 4096
_STEPS = 15
"""Of the fit to a known person."""


def track_photo(
    photo: str | os.PathLike[str] | np.ndarray,
    *,
    face: int | None = None,
    size: int = 512,
    person: Frame | None = None,
) -> Frame:
    """Track the person in a photo.

    Args:
        photo: a file, or an image (H, W, 3) float 0..1 or uint8. One that lies on its side or stands on its
            head is turned upright first.
        face: which face if there are several, counted from the left; 1 is the first.
        size: side of the square crop, pixels.
        person: another photo of the same person, tracked before: keep her identity, and measure expressions
            against the shape that her own brows, lids and lips have there.

    Returns:
        The tracked frame. World = the bust at rest; the head turns by the neck and head joints.

    Raises:
        HeadsplatError: unreadable file, no face, several, too small, turned too far, or not explainable.
    """
    from headsplat.data.image import read_focal, read_image, to_uint8
    from headsplat.head.free import load_free_head
    from headsplat.track.contour import see_outline
    from headsplat.track.detect import detect_face
    from headsplat.track.fit import fit_frames, fit_pose
    from headsplat.track.matte import estimate_matte
    from headsplat.track.points import face_points
    from headsplat.track.refine import refine_outline
    from headsplat.track.upright import quarter_turns

    noted = None
    if isinstance(photo, np.ndarray):
        image, source = _as_float(photo), hashlib.sha256(np.ascontiguousarray(photo).tobytes()).hexdigest()
    else:
        image = read_image(photo, longest=_READ_SIZE)
        source = hashlib.sha256(Path(photo).read_bytes()).hexdigest()
        noted = read_focal(photo)
    turns = quarter_turns(to_uint8(image), face)
    if turns:
        image = np.ascontiguousarray(np.rot90(image, turns))
    landmarks = detect_face(image, face=face)
    crop = crop_around(landmarks, size)
    picture, valid = warp(image, crop, size)
    landmarks = landmarks @ crop[:, :2].T + crop[:, 2]
    points, centre, model = face_points(), np.full(2, size / 2), load_free_head()
    guess = None
    if noted is not None:
        # The picture may have been cut since, and landmarks of very near faces are not quite in perspective.
        height = lm.face_height(landmarks)
        guess = float(
            np.clip(noted * np.hypot(image.shape[0], image.shape[1]) * crop[0, 0], 2.5 * height, 12 * height)
        )
    if person is not None:
        points = points_of(person, points)
    fit = fit_frames(points, landmarks[None], centre, focal_guess=guess)
    _check_fit(points, fit, landmarks, centre)
    alpha, foreground = estimate_matte(picture, landmarks, valid)
    if person is None:
        outline = see_outline(foreground, alpha, landmarks)
        fit = refine_outline(model, points, fit, landmarks, outline, valid)
    else:
        fit = replace(fit, shape=np.asarray(person.shape[: len(fit.shape)], np.float64))
        fit = fit_pose(points, landmarks, centre, fit, iterations=_STEPS)
    return build_frame(model, points, fit, picture, alpha, foreground, valid, landmarks, crop, source)


def _check_fit(points: FacePoints, fit: Fit, landmarks: np.ndarray, centre: np.ndarray) -> None:
    """Refuse what is not a face, and faces turned too far for the detector to be right.

    Raises:
        HeadsplatError: saying which.
    """
    from headsplat.track.fit import landmark_errors
    from headsplat.track.torso import head_angles

    yaw = head_angles(fit.poses[0].rotation)[0]
    if abs(yaw) > MAX_YAW:
        raise HeadsplatError(
            f"The face is turned {abs(np.degrees(yaw)):.0f} degrees to the side; use one turned less than 65."
        )
    if landmark_errors(points, fit, landmarks[None], centre).mean() > MAX_ERROR:
        raise HeadsplatError(
            "The face cannot be made out well enough; use a photo that shows it from the front and bare."
        )


def points_of(person: Frame, points: FacePoints) -> FacePoints:
    """The face points moved to where a tracked frame shows them on this person.

    What the model could not explain there, a brow that sits lower or a fuller lip, belongs to the face and
    not to an expression of the next photo.
    """
    from headsplat.head.free import load_free_head
    from headsplat.track.solver import Pose, project

    model = load_free_head()
    posed = model.with_shape(person.shape).with_pose(person.expression, person.rotations)
    head = np.asarray(person.camera.viewmat, np.float64) @ posed.transforms[model.joint_names.index("head")]
    expression = np.asarray(person.expression, np.float64)
    pose = Pose(head[:3, :3], head[:3, 3], expression, np.zeros((2, 2)))
    K = np.asarray(person.camera.K, np.float64)
    shape = np.asarray(person.shape[: len(points.shape)], np.float64)
    view = project(points, shape, K[0, 0], pose, K[:2, 2])
    across = (person.landmarks[: lm.MESH] - view.pixels) * view.camera[:, 2:] / K[0, 0]
    offset = np.column_stack([across, np.zeros(lm.MESH)]) @ pose.rotation
    return replace(points, base=points.base + offset)


def crop_around(landmarks: np.ndarray, size: int) -> np.ndarray:
    """(2, 3) affine map from the picture to a square crop of `size` pixels around a face (478, 2)."""
    height = lm.face_height(landmarks)
    centre = landmarks[: lm.MESH].mean(0) + np.array([0, 0.10 * height])
    scale = size / (CROP * height)
    return np.array([[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]])


def warp(image: np.ndarray, crop: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the crop out of a picture, filtered when it shrinks.

    Args:
        image: (H, W, 3) float32.
        crop: (2, 3) affine map with a common scale and no rotation.
        size: side of the result, pixels.

    Returns:
        The crop (size, size, 3) float32 with repeated edges, and (size, size) bool: inside the picture.
    """
    import cv2

    # The map speaks of pixel edges (centres at .5); OpenCV of pixel centres at integers.
    scale = crop[0, 0]
    x0, y0 = -crop[:, 2] / scale
    extent = size / scale
    low = np.floor([x0, y0]).astype(int) - 4
    high = np.ceil([x0 + extent, y0 + extent]).astype(int) + 4
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, image.shape[1::-1])
    part = image[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    shrink = max(1, int(np.floor(1 / scale)))
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = crop[:, 2] + scale * (inside_low + 0.5) - 0.5
    if shrink > 1:  # average whole blocks first, then resample by less than two
        part, matrix = _blocks(part, matrix, shrink)
    soft = matrix[0, 0] < 0.8
    if soft:
        part = cv2.GaussianBlur(part, (0, 0), 0.35 / matrix[0, 0])
    out = cv2.warpAffine(
        part,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR if soft else cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    pixels = (np.arange(size) + 0.5) / scale
    valid_x = (pixels + x0 >= 0) & (pixels + x0 <= image.shape[1])
    valid_y = (pixels + y0 >= 0) & (pixels + y0 <= image.shape[0])
    return np.clip(out, 0, 1).astype(np.float32), valid_y[:, None] & valid_x[None]


def _blocks(part: np.ndarray, matrix: np.ndarray, by: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of `by` x `by` blocks, and the map for them."""
    import cv2

    height, width = part.shape[0] // by * by, part.shape[1] // by * by
    part = cv2.resize(part[:height, :width], (width // by, height // by), interpolation=cv2.INTER_AREA)
    out = matrix.copy()
    out[:, :2] *= by
    out[:, 2] += matrix[0, 0] * (by - 1) / 2
    return part, out


def confidence_of(error: float, yaw: float, face_height: float, cover: float = 0.0) -> float:
    """How far a fit can be trusted, 0..1.

    Args:
        error: mean landmark error as a share of the outer-eye distance.
        yaw: of the head against the camera, radians.
        face_height: forehead to chin in the original picture, pixels.
        cover: from `headsplat.track.occlusion.cover`.
    """
    by_error = np.clip((0.035 - error) / 0.02, 0, 1)
    by_yaw = np.clip((np.radians(75) - abs(yaw)) / np.radians(45), 0, 1)
    by_size = np.clip(face_height / 160, 0, 1) ** 0.5
    by_cover = np.clip((1.35 - cover) / 0.4, 0.2, 1)
    return float(by_error * by_yaw * by_size * by_cover)


def build_frame(
    model: HeadModel,
    points: FacePoints,
    fit: Fit,
    image: np.ndarray,
    alpha: np.ndarray,
    foreground: np.ndarray,
    valid: np.ndarray,
    landmarks: np.ndarray,
    crop: np.ndarray,
    source: str,
) -> Frame:
    """The frame of a one-frame fit: a still torso's camera, and the rotations of all joints."""
    from headsplat.track.fit import landmark_errors
    from headsplat.track.gaze import eye_rotations
    from headsplat.track.occlusion import cover
    from headsplat.track.torso import head_angles, split_turn

    pose, size = fit.poses[0], image.shape[0]
    names = list(model.joint_names)
    shape = np.zeros(len(model.shape_basis), np.float32)
    shape[: len(fit.shape)] = fit.shape
    viewmat, neck, head = split_turn(pose.rotation, pose.translation, model.with_shape(shape).joints, names)
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("neck")], rotations[names.index("head")] = neck, head
    rotations[[names.index("right_eye"), names.index("left_eye")]] = eye_rotations(pose.gaze)
    error = float(landmark_errors(points, fit, landmarks[None], np.full(2, size / 2)).mean())
    return Frame(
        image=image,
        alpha=alpha,
        foreground=foreground,
        valid=valid,
        camera=Camera(viewmat.astype(np.float32), intrinsics(fit.focal, size, size), size, size),
        shape=shape,
        expression=pose.expression.astype(np.float32),
        rotations=rotations,
        T_world_root=np.eye(4, dtype=np.float32),
        landmarks=landmarks.astype(np.float32),
        confidence=confidence_of(
            error,
            head_angles(pose.rotation)[0],
            lm.face_height(landmarks) / crop[0, 0],
            cover(image, landmarks),
        ),
        source=source,
        landmark_error=error,
        crop=crop.astype(np.float32),
    )


def _as_float(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[-1] != 3:
        raise HeadsplatError(f"An image must have shape (height, width, 3), not {image.shape}.")
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)

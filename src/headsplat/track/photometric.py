"""Fit the pose and expression of a picture by comparing it with the drawn avatar of the same person.

Analysis by synthesis. A Gauss-Newton step sums two kinds of evidence over the head model's own parameters:

- *Light*: the drawn face must look like the picture. Each visible Gaussian says how its pixel moves with
  every parameter, and the mean slope of both pictures how much lighter or darker that makes it (as in
  efficient second-order alignment, Malis 2004), so that no picture has to be drawn for a derivative. Both
  pictures are stripped of their slow shades first, which a smile changes as much as its place.
- *Points*: the face points found in the drawn avatar must come to lie where they were found in the picture.
  Both times the detector errs alike, so its bias falls out, which the fit of a head model to points keeps.

Nothing of the picture but pose and expression reaches the avatar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track import priors
from headsplat.track.evidence import Blurred, Normal, Picture, Scene, add_light, add_points, listen
from headsplat.track.likeness import Likeness, Posture, jacobian

_STIFF = 0.3
"""Least stiffness of an action here: hair over a brow must not lift it."""
_SMALLEST = 16
"""Pixels from forehead to chin; less shows no expression."""
_FARTHEST = 0.12
"""Radians; a tracked head is not turned further from the truth, and a picture that asks for more misleads."""
_ANTAGONISTS = (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"))


@dataclass(frozen=True)
class Effort:
    """How hard to try, and what to believe.

    Attributes:
        rounds: blur as a share of the face's height, and how many steps with it; coarse to fine.
        listen: steps (counted from 0) before which the detector looks at the drawn avatar.
        face: the face is compared at no more than this height in pixels.
        light: weight of the picture's evidence.
        points: weight of the face points'.
        expression: pull of expression weights to what is believed, times each action's stiffness squared.
        near: pull of expression weights to the start, likewise.
        symmetry: pull of left and right actions together.
        beyond: how far weights may leave their usual range; people grin wider than the model.
    """

    rounds: tuple[tuple[float, int], ...] = ((0.022, 2), (0.011, 3), (0.0055, 3), (0.0027, 3))
    listen: tuple[int, ...] = (0, 2, 5)
    face: int = 200
    light: float = 0.02
    points: float = 0.03
    expression: float = 20.0
    near: float = 0.0
    symmetry: float = 1.5
    beyond: float = 0.3


PHOTO = Effort()
"""For one picture: about half a second."""
FILM = Effort(rounds=((0.011, 1), (0.0055, 2)), listen=(), points=0.005, expression=60.0, near=200.0)
"""For a frame after another: under a tenth of a second. Points shake between frames, light does not."""


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes:
        posture: the end; the start where the end is no better or too far away to be trusted, or where
            there is no face to see.
        before: mean absolute difference of the structure inside the face at the start, 0..1.
        after: the same at the end; never more than `before`.
        bias: (468, 2) where the detector sees the points of the drawn avatar against where its head model has
            them, as a share of the face's height; None where nobody looked.
    """

    posture: Posture
    before: float
    after: float
    bias: np.ndarray | None


def fit_frame(avatar: Avatar | Likeness, frame: Frame, effort: Effort = PHOTO) -> Frame:
    """A tracked frame of the avatar's person with pose and expression as the avatar needs them.

    Args:
        avatar: made from other pictures of the same person.
        frame: tracked with the free head; its pose and expression are the start.
        effort: how hard to try.

    Returns:
        The frame with new `expression`, `rotations` (neck, head and eyes) and `camera`.

    Raises:
        HeadsplatError: an avatar that cannot be fitted.
    """
    likeness = avatar if isinstance(avatar, Likeness) else Likeness(avatar)
    start = Posture.of_frame(likeness.avatar, frame)
    fitted = fit_to_picture(likeness, Picture.of_frame(frame), start, effort)
    return fitted.posture.to_frame(likeness.avatar, frame)


def fit_film(
    avatar: Avatar | Likeness,
    frames: Iterable[tuple[Picture, Posture]],
    *,
    still_camera: bool = True,
    first: Effort = PHOTO,
    rest: Effort = FILM,
    listen_every: int = 10,
) -> Iterator[Fitted]:
    """Fit frame after frame of one recording.

    What the fit changed in one frame is expected to be right for the next one too: the tracker's errors are
    mostly those of the person and of the detector, and hardly move.

    Args:
        avatar: of the person in the recording.
        frames: pictures and where the tracker has the head in them, in order of time.
        still_camera: correct the bust's pose; otherwise the camera's.
        first: effort for the first frame.
        rest: effort for those that follow.
        listen_every: let the detector look at the drawn avatar in every so many frames.

    Yields:
        The fit of each frame.

    Raises:
        HeadsplatError: an avatar that cannot be fitted.
    """
    likeness = avatar if isinstance(avatar, Likeness) else Likeness(avatar)
    tracked: Posture | None = None
    last: Fitted | None = None
    for number, (picture, start) in enumerate(frames):
        if last is None or tracked is None:
            last, tracked = fit_to_picture(likeness, picture, start, first, still_camera=still_camera), start
        else:
            hint = _corrected(likeness, start, tracked, last.posture, still_camera)
            effort = replace(rest, listen=(0,)) if number % listen_every == 0 else rest
            fitted = fit_to_picture(
                likeness,
                picture,
                hint,
                effort,
                still_camera=still_camera,
                bias=last.bias,
                belief=start.weights,
            )
            last, tracked = fitted, start
        yield last


def fit_to_picture(
    avatar: Avatar | Likeness,
    picture: Picture,
    start: Posture,
    effort: Effort = PHOTO,
    *,
    still_camera: bool = False,
    bias: np.ndarray | None = None,
    belief: np.ndarray | None = None,
) -> Fitted:
    """Find the pose and expression in which the avatar looks like a picture of its person.

    Args:
        avatar: of the person.
        picture: what to look like.
        start: where the tracker has the head.
        effort: how hard to try.
        still_camera: correct the bust's pose; otherwise the camera's.
        bias: of the face points, from an earlier picture; see `Fitted`.
        belief: (E,) weights that expressions are pulled to instead of zero.

    Raises:
        HeadsplatError: an avatar that cannot be fitted.
    """
    likeness = avatar if isinstance(avatar, Likeness) else Likeness(avatar)
    if not lm.face_height(picture.landmarks) >= _SMALLEST:
        return Fitted(start, 0.0, 0.0, bias)
    scene = Scene.of(picture, start.camera, effort.face)
    posture, step = start, 0
    belief = np.zeros_like(start.weights) if belief is None else belief
    before = scene.difference(likeness, start)
    height = lm.face_height(scene.landmarks)
    bias = None if bias is None or likeness.landmarks is None else bias * height
    for share, count in effort.rounds:
        blurred = Blurred.of(scene.structure, share * height)
        for _ in range(count):
            if likeness.landmarks is not None and step in effort.listen:
                bias = listen(likeness, posture, picture.landmarks, scene)
            posture = _step(
                likeness, posture, scene, blurred, bias, start.weights, belief, effort, still_camera
            )
            step += 1
    after = scene.difference(likeness, posture)
    if not after < before or _turn(likeness, start, posture) > _FARTHEST:
        posture, after = start, before
    return Fitted(posture, before, after, None if bias is None else bias / height)


def _step(
    likeness: Likeness,
    posture: Posture,
    scene: Scene,
    picture: Blurred,
    bias: np.ndarray | None,
    start: np.ndarray,
    belief: np.ndarray,
    effort: Effort,
    still_camera: bool,
) -> Posture:
    """One Gauss-Newton step; `start` and `belief` (E,) are weights that expressions are pulled to."""
    rotation, translation = likeness.head_in_camera(posture)
    weights = posture.weights[likeness.fitted].astype(np.float64)
    count = 6 + len(weights)
    normal = Normal(np.zeros((count, count)), np.zeros(count))
    camera = scene.camera(posture.camera)
    K = np.asarray(camera.K, np.float64)
    add_light(normal, likeness, posture, scene, picture, camera, rotation, translation, weights, effort.light)
    if bias is not None and likeness.landmarks is not None:
        at = likeness.landmarks.at(weights) @ rotation.T + translation
        focals = np.diag(K)[:2]
        pixels = focals * at[:, :2] / at[:, 2:] + K[:2, 2]
        by = jacobian(likeness.landmarks, np.arange(lm.MESH), rotation, at, focals, translation)
        add_points(normal, by, scene.landmarks, pixels + bias, effort.points)
    fitted = likeness.fitted
    low, high = _add_beliefs(normal, likeness, weights, start[fitted], belief[fitted], effort)
    free = np.ones(count, bool)
    free[6:] = ~((weights <= low) & (normal.vector[6:] < 0) | (weights >= high) & (normal.vector[6:] > 0))
    index = np.flatnonzero(free)
    matrix = normal.matrix[np.ix_(index, index)]
    step = np.zeros(count)
    step[index] = np.linalg.solve(matrix + np.diag(1e-4 * np.diag(matrix) + 1e-9), normal.vector[index])
    weights = np.clip(weights + step[6:], low, high)
    turned = axis_angle_to_matrix(step[:3]) @ rotation
    return likeness.moved(posture, turned, translation + step[3:6], weights, still_camera)


def _add_beliefs(
    normal: Normal,
    likeness: Likeness,
    weights: np.ndarray,
    start: np.ndarray,
    belief: np.ndarray,
    effort: Effort,
) -> tuple[np.ndarray, np.ndarray]:
    """Add the priors on expressions; returns the bounds (X,) of their weights."""
    names, fitted = likeness.avatar.expressions, likeness.fitted
    stiff = np.maximum(priors.stiffness(names)[fitted], _STIFF) ** 2
    at = 6 + np.arange(len(fitted))
    normal.matrix[at, at] += (effort.expression + effort.near) * stiff
    normal.vector[at] -= stiff * (effort.expression * (weights - belief) + effort.near * (weights - start))
    place = {int(e): 6 + i for i, e in enumerate(fitted)}
    for left, right in priors.twins(names):
        a, b = place[int(left)], place[int(right)]
        _add_pair(normal, a, b, -1.0, weights, effort.symmetry)
    for one, other in _ANTAGONISTS:
        if one in names and other in names:
            # Opposed weights cancel each other; what they do together is no expression.
            a, b = place[names.index(one)], place[names.index(other)]
            _add_pair(normal, a, b, 1.0, weights, effort.expression)
    high = priors.upper_bounds(names)[fitted] + effort.beyond
    return np.full(len(fitted), -effort.beyond), high


def _add_pair(normal: Normal, a: int, b: int, sign: float, weights: np.ndarray, pull: float) -> None:
    """Pull weights[a] + sign * weights[b] to zero; a and b count from the first parameter."""
    row = np.array([1.0, sign])
    normal.matrix[np.ix_([a, b], [a, b])] += pull * np.outer(row, row)
    normal.vector[[a, b]] -= pull * row * (weights[a - 6] + sign * weights[b - 6])


def _turn(likeness: Likeness, one: Posture, other: Posture) -> float:
    """Radians between the head's directions in two postures."""
    (a, _), (b, _) = likeness.head_in_camera(one), likeness.head_in_camera(other)
    return float(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1)))


def _corrected(
    likeness: Likeness, start: Posture, tracked: Posture, fitted: Posture, still_camera: bool
) -> Posture:
    """A tracked posture with the correction that an earlier one, `tracked`, got when it became `fitted`."""
    poses = []
    for posture in (start, tracked, fitted):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = likeness.head_in_camera(posture)
        poses.append(pose)
    pose = poses[0] @ np.linalg.inv(poses[1]) @ poses[2]
    change = (fitted.weights - tracked.weights)[likeness.fitted]
    weights = start.weights[likeness.fitted].astype(np.float64) + change
    return likeness.moved(start, pose[:3, :3], pose[:3, 3], weights, still_camera)

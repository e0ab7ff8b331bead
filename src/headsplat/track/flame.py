"""Fit FLAME to a recording's tracked surface, for tools that know no other head.

FLAME's template is laid onto the person's face at rest (rigid and identity together, to the nearest points of
the surface, as in iterative closest points). The pairs found there are kept: in every frame FLAME's vertices
must then follow their points of the tracked surface by its own jaw, expressions and place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.flame import JOINTS
from headsplat.head.model import HeadModel, ShapedHead
from headsplat.head.normals import face_normals, vertex_normals
from headsplat.track import landmarks as lm
from headsplat.track.torso import rotation_vector

_BEHIND, _AROUND = 0.085, 0.11
"""The face, metres: no farther behind the tip of the nose, and no farther from it to the side, up or down."""
_REACHES = (0.02, 0.02, 0.015, 0.015, 0.01, 0.01, 0.007, 0.007, 0.005, 0.005, 0.004, 0.004)
"""How far the nearest point may be in each round of the registration, metres."""
_FACING = 0.5
"""Least cosine between the normals of a pair."""
_SIGMA = 1e-3
"""Standard deviation of a vertex, metres, against which weights of one sigma count."""
_EVIDENCE = 150.0
"""The vertices together count as so many independent ones."""
_SHAPES = 100
"""Identity components that are fitted."""
_STEPS = 3
_JAW_SIGMA = 0.5


@dataclass(frozen=True)
class FlameFit:
    """FLAME's parameters for a recording.

    Attributes:
        dataset: the recording with FLAME's parameters: head "flame", expressions expr0..., FLAME's joints,
            and a `T_world_root` that only translates.
        errors: (V,) mean distance of FLAME's face to the tracked one in each view, metres.
    """

    dataset: Dataset
    errors: np.ndarray


@dataclass(frozen=True)
class _Pairs:
    """FLAME's vertices of the face, and where they lie on the tracked surface."""

    vertices: np.ndarray  # (N,) of FLAME
    corners: np.ndarray  # (N, 3) vertices of the free head
    shares: np.ndarray  # (N, 3) barycentric

    def on(self, surface: np.ndarray) -> np.ndarray:
        """(N, 3) the points on a surface (V, 3)."""
        return np.einsum("nkx,nk->nx", surface[self.corners], self.shares)


def fit_flame(
    dataset: Dataset, free: HeadModel, flame: HeadModel, report: Callable[[str, float], None]
) -> FlameFit:
    """Fit FLAME to every view of a recording.

    Args:
        dataset: tracked with the free head.
        free: the free head.
        flame: the user's FLAME.
        report: told how far it is.

    Raises:
        HeadsplatError: the recording is not the free head's, or FLAME's face cannot be laid onto it.
    """
    if dataset.head != "free" or tuple(flame.joint_names) != JOINTS:
        raise HeadsplatError(
            "FLAME is fitted to a recording tracked with the free head; track the video anew."
        )
    person = free.with_shape(dataset.shape)
    shape, pairs = _lay_on(flame, free, person)
    small = _only(flame, pairs.vertices).with_shape(shape)
    views, errors, state = [], [], None
    for number, view in enumerate(dataset.views):
        posed = person.with_pose(view.expression, view.rotations, view.T_world_root)
        state, error = _follow(small, view, dataset.joints, pairs.on(posed.vertices), state)
        views.append(_view(view, state))
        errors.append(error)
        report("Fitting FLAME", (number + 1) / len(dataset))
    fitted = replace(
        dataset,
        head="flame",
        shape=shape.astype(np.float32),
        expressions=tuple(flame.expression_names),
        joints=JOINTS,
        views=tuple(views),
    )
    return FlameFit(fitted, np.array(errors))


def _lay_on(flame: HeadModel, free: HeadModel, person: ShapedHead) -> tuple[np.ndarray, _Pairs]:
    """Identity of FLAME, and its vertices' places on the person at rest."""
    from scipy.spatial import KDTree

    rest = person.vertices.astype(np.float64)
    nose = free.landmarks(rest)[lm.NOSE_TIP]
    samples, corners, shares, normals = _samples(rest, free, nose)
    tree = KDTree(samples)
    template = flame.template.astype(np.float64)
    own_nose = _nose_tip(template)
    eyes = np.concatenate([flame.vertices_of("left_eye"), flame.vertices_of("right_eye")])
    used = np.setdiff1d(np.unique(flame.faces), eyes)
    away = template[used] - own_nose
    face = used[(away[:, 2] > -_BEHIND) & (np.abs(away[:, :2]) < _AROUND).all(1)]
    basis = flame.shape_basis[:_SHAPES, face].transpose(1, 2, 0).astype(np.float64)
    betas, turn, move = np.zeros(basis.shape[-1]), np.eye(3), nose - own_nose
    for reach in _REACHES:
        whole = template + np.tensordot(betas, flame.shape_basis[: len(betas)], 1)
        facing = vertex_normals(whole, flame.faces)[face] @ turn.T
        placed = whole[face] @ turn.T + move
        distance, nearest = map(np.asarray, tree.query(placed))
        keep = (distance < reach) & ((facing * normals[nearest]).sum(1) > _FACING)
        if keep.sum() < min(50, len(face) // 3):
            raise HeadsplatError(
                "FLAME's face does not come to lie on the tracked one; is the file a head's?"
            )
        J, r = _rest_system(placed[keep], turn @ basis[keep], samples[nearest[keep]], normals[nearest[keep]])
        weight = np.sqrt(_EVIDENCE / len(r)) / _SIGMA
        pull = np.diag(np.r_[np.zeros(6), np.ones(len(betas))])
        gradient = weight**2 * J.T @ r + pull @ np.r_[np.zeros(6), betas]
        step = -np.linalg.solve(weight**2 * J.T @ J + pull + 1e-9 * np.eye(len(pull)), gradient)
        rotation = axis_angle_to_matrix(step[:3])
        turn, move, betas = rotation @ turn, rotation @ move + step[3:6], betas + step[6:]
    placed = (template + np.tensordot(betas, flame.shape_basis[: len(betas)], 1))[face] @ turn.T + move
    distance, chosen = map(np.asarray, tree.query(placed))
    keep = distance < _REACHES[-1]
    return betas, _Pairs(face[keep], corners[chosen[keep]], shares[chosen[keep]])


def _rest_system(
    placed: np.ndarray, basis: np.ndarray, targets: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobian (M, 6 + B) and residual (M,) of distances along the normal and, a tenth of it, in space."""
    J = np.concatenate([_cross(placed), np.broadcast_to(np.eye(3), (len(placed), 3, 3)), basis], -1)
    r = placed - targets
    along = np.einsum("nx,nxp->np", normals, J), (normals * r).sum(1)
    return (
        np.concatenate([along[0], 0.1 * J.reshape(-1, J.shape[-1])]),
        np.concatenate([along[1], 0.1 * r.reshape(-1)]),
    )


def _follow(
    head: ShapedHead, view: View, joints: tuple[str, ...], targets: np.ndarray, state: _State | None
) -> tuple[_State, float]:
    """FLAME's parameters in one view, started from the view before, and the mean distance left."""
    root = rotation_vector(view.T_world_root[:3, :3])
    neck = axis_angle_to_matrix(view.rotations[joints.index("neck")])
    if state is None:
        still, weights = np.zeros(3), np.zeros(len(head.model.expression_basis))
        state = _State(root, still, still, still, weights, np.zeros((2, 3)))
        posed = head.with_pose(None, state.rotations())
        state = replace(state, translation=(targets - posed.vertices).mean(0))
    nod = rotation_vector(neck @ axis_angle_to_matrix(view.rotations[joints.index("head")]))
    eyes = view.rotations[[joints.index("left_eye"), joints.index("right_eye")]]
    state = replace(state, root=root, neck=nod, eyes=eyes)
    scale = np.sqrt(_EVIDENCE / targets.size) / _SIGMA
    pull = np.r_[np.zeros(6), np.full(3, _JAW_SIGMA**-2), np.ones(len(state.expression))]
    for _ in range(_STEPS):
        points, J = state.linearise(head)
        r = (points - targets).reshape(-1)
        values = np.r_[np.zeros(6), state.jaw, state.expression]
        gradient = scale**2 * J.T @ r + pull * values
        step = -np.linalg.solve(scale**2 * J.T @ J + np.diag(pull), gradient)
        state = state.moved(step)
    points = state.posed(head)
    return state, float(np.linalg.norm(points - targets, axis=1).mean())


@dataclass(frozen=True)
class _State:
    """FLAME in one view: rotation vectors, (3,) metres, weights."""

    root: np.ndarray
    neck: np.ndarray
    jaw: np.ndarray
    translation: np.ndarray
    expression: np.ndarray
    eyes: np.ndarray

    def rotations(self) -> np.ndarray:
        """(5, 3) in the order of FLAME's joints."""
        return np.concatenate([[self.root, self.neck, self.jaw], self.eyes])

    def moved(self, step: np.ndarray) -> _State:
        """After a step in translation, neck, jaw and expression."""
        return replace(
            self,
            translation=self.translation + step[:3],
            neck=self.neck + step[3:6],
            jaw=self.jaw + step[6:9],
            expression=self.expression + step[9:],
        )

    def posed(self, head: ShapedHead) -> np.ndarray:
        """(N, 3) vertices in the world."""
        return head.with_pose(self.expression, self.rotations()).vertices + self.translation

    def linearise(self, head: ShapedHead) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) vertices and (3 N, 9 + E) derivative by translation, neck, jaw and expression."""
        posed, small = head.with_pose(self.expression, self.rotations()), 1e-3
        points = posed.vertices + self.translation
        columns = [np.broadcast_to(axis, points.shape).reshape(-1) for axis in np.eye(3)]
        for name in ("neck", "jaw"):
            for axis in np.eye(3):
                turned = replace(self, **{name: getattr(self, name) + small * axis}).posed(head)
                columns.append(((turned - points) / small).reshape(-1))
        turns = np.einsum("nj,jab->nab", head.model.skin_weights, posed.transforms[:, :3, :3])
        basis = np.einsum("nab,enb->nae", turns, head.model.expression_basis)
        return points, np.column_stack([*columns, basis.reshape(-1, basis.shape[-1])])


def _view(view: View, state: _State) -> View:
    """The view with FLAME's parameters."""
    T_world_root = np.eye(4, dtype=np.float32)
    T_world_root[:3, 3] = state.translation
    return replace(
        view,
        expression=state.expression.astype(np.float32),
        rotations=state.rotations().astype(np.float32),
        T_world_root=T_world_root,
    )


def _only(model: HeadModel, vertices: np.ndarray) -> HeadModel:
    """The model with these vertices alone; its faces mean nothing any more."""
    return replace(
        model,
        template=model.template[vertices],
        shape_basis=model.shape_basis[:, vertices],
        expression_basis=model.expression_basis[:, vertices],
        skin_weights=model.skin_weights[vertices],
        pose_basis=None if model.pose_basis is None else model.pose_basis[:, vertices],
    )


def _samples(
    rest: np.ndarray, free: HeadModel, nose: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points on the face at rest (S, 3), their corners (S, 3), barycentrics (S, 3) and normals (S, 3)."""
    faces = free.faces[free.faces_of("head", "body")]
    away = rest[faces].mean(1) - nose
    faces = faces[(away[:, 2] > -_BEHIND - 0.02) & (np.abs(away[:, :2]) < _AROUND + 0.02).all(1)]
    grid = np.array([(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]) / 4
    corners, shares = np.repeat(faces, len(grid), 0), np.tile(grid, (len(faces), 1))
    normals = np.repeat(face_normals(rest, faces), len(grid), 0)
    return np.einsum("nkx,nk->nx", rest[corners], shares), corners, shares, normals


def _nose_tip(template: np.ndarray) -> np.ndarray:
    """The foremost point near the plane of symmetry."""
    middle = template[np.abs(template[:, 0]) < 0.012]
    return middle[middle[:, 2].argmax()]


def _cross(points: np.ndarray) -> np.ndarray:
    """(N, 3, 3) derivative of the points by a small rotation vector."""
    x, y, z = points.T
    zero = np.zeros_like(x)
    return np.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).reshape(-1, 3, 3)

"""The recording as GaussianHead sees it: where the head is, how its bones stand, what the frames say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.errors import HeadsplatError
from headsplat.gaussians import matrix_to_quat, quat_to_axis_angle
from headsplat.head import lbs
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.head.normals import vertex_normals
from headsplat.methods.gaussianhead.config import GaussianHeadConfig


@dataclass(frozen=True)
class Bones:
    """The joints of a recording and what the field is told about them.

    Attributes:
        names: J names, parents first.
        parents: (J,).
        rest: (J, 3) positions at rest, metres.
        head: number of the joint that carries the skull.
        told: numbers of the joints whose turns relative to their parents the field is told: jaw and eyes.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    rest: np.ndarray
    head: int
    told: tuple[int, ...]

    def condition(self, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        """(E + 3 told,) expression weights and rotation vectors, of (J, 4, 4) `T_world_rest`."""
        turns = []
        for j in self.told:
            local = transforms[self.parents[j], :3, :3].T @ transforms[j, :3, :3]
            turns.append(quat_to_axis_angle(matrix_to_quat(local.astype(np.float64))))
        return np.concatenate([weights, *turns]).astype(np.float32)

    def to_head(self, transforms: np.ndarray, point: np.ndarray) -> np.ndarray:
        """(3,) world point in the rest space of the skull."""
        T = transforms[self.head]
        return ((np.asarray(point) - T[:3, 3]) @ T[:3, :3]).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """A recording with its unit of length.

    Attributes:
        dataset: the recording.
        bones: its joints.
        centre: (3,) origin of the scene in rest space, metres: what the camera looks at, on average.
        half: metres; half of what a picture shows from top to bottom at the head.
    """

    dataset: Dataset
    bones: Bones
    centre: np.ndarray
    half: float

    def transforms(self, view: View) -> np.ndarray:
        """(J, 4, 4) float32 `T_world_rest` of each joint in a view."""
        if self.dataset.head != "free":
            return np.stack([view.T_world_root, view.T_world_head]).astype(np.float32)
        order = [self.dataset.joints.index(name) for name in self.bones.names]
        matrices = lbs.axis_angle_to_matrix(view.rotations[order].astype(np.float32))
        parents = tuple(self.bones.parents.tolist())
        root = view.T_world_root.astype(np.float32)
        return np.asarray(lbs.joint_transforms(matrices, self.bones.rest, parents, root), np.float32)


def scene_of(dataset: Dataset, config: GaussianHeadConfig) -> Scene:
    """The recording ready to learn from.

    Raises:
        HeadsplatError: no view can be learned from, or the settings need a head model that it does not have.
    """
    if not dataset.views:
        raise HeadsplatError(f"{dataset.root} has no pictures; track the clip again.")
    if dataset.head != "free" and (config.start == "surface" or config.space == "split"):
        raise HeadsplatError(
            f"{dataset.root} was not tracked with the free head; add --set start=random blendshapes=false "
            "space=head, or track the clip with `headsplat track`."
        )
    bones = _bones(dataset)
    rough = Scene(dataset, bones, np.zeros(3, np.float32), 1.0)
    centres, halves = [], []
    for view in dataset.views[:: max(1, len(dataset) // 50)]:
        T = rough.transforms(view)[bones.head]
        head = T[:3, :3] @ bones.rest[bones.head] + T[:3, 3]
        centre, half = _in_view(view.camera, head)
        centres.append((centre - T[:3, 3]) @ T[:3, :3])
        halves.append(half)
    half = float(np.median(halves))
    if not half > 0:
        raise HeadsplatError(f"{dataset.root} has its head behind the camera; its cameras are wrong.")
    return Scene(dataset, bones, np.median(centres, axis=0).astype(np.float32), half)


def _bones(dataset: Dataset) -> Bones:
    if dataset.head != "free":
        none = np.zeros((2, 3), np.float32)
        return Bones(("root", "head"), np.array([-1, 0], np.int32), none, 1, ())
    model = load_free_head()
    missing = sorted({*model.joint_names} - {*dataset.joints})
    if missing:
        raise HeadsplatError(f"{dataset.root} lacks the joint {missing[0]}; track the clip again.")
    rest = model.with_shape(dataset.shape[: len(model.shape_basis)]).joints
    told = tuple(model.joint_names.index(name) for name in ("jaw", "left_eye", "right_eye"))
    parents = model.parents.astype(np.int32)
    return Bones(model.joint_names, parents, rest, model.joint_names.index("head"), told)


def _in_view(camera: Camera, head: np.ndarray) -> tuple[np.ndarray, float]:
    """The world point in the middle of the picture at the depth of the head, and half the height it shows."""
    depth = camera.project(np.asarray(head, np.float64)[None])[0, 2]
    middle = np.array([[camera.width / 2, camera.height / 2]])
    return camera.unproject(middle, np.array([depth]))[0], float(depth * camera.height / camera.K[1, 1] / 2)


@dataclass(frozen=True)
class Start:
    """Gaussians before training, N of them, in units of the scene.

    Attributes:
        means: (N, 3).
        scales: (N,) standard deviations.
        blend: (N, 3, E) how the head model's blendshapes move them, or None.
        skin_joints: (N, 4).
        skin_weights: (N, 4).
    """

    means: np.ndarray
    scales: np.ndarray
    blend: np.ndarray | None
    skin_joints: np.ndarray
    skin_weights: np.ndarray


HAIR_SHARE = 0.2
"""Of the Gaussians that start on the head: in a layer around the scalp."""
OUTER_SHARE = 0.25
"""Of them: where the matte reaches beyond the head model, hair and clothes."""
HAIR_DEPTH = 0.05
"""Thickness of the layer around the scalp, metres."""
OUTER_VIEWS = 8
"""How many views are asked what they show."""
BORDER = 0.08
"""Share of the picture's height by which the matte is continued beyond its borders."""
NEARLY = -0.2
"""Cosine between normal and camera above which a vertex may be seen: a little over the edge."""


def start_of(scene: Scene, config: GaussianHeadConfig, rng: np.random.Generator) -> Start:
    """Where the Gaussians begin: in a cube, or on the head model, around its scalp and out to the matte."""
    from scipy.spatial import KDTree

    count = config.gaussians
    if config.start == "random":
        means = rng.uniform(-config.start_cube, config.start_cube, (count, 3))
        nearest = None
    else:
        means, nearest = _on_the_head(scene, count, rng)
        means = (means - scene.centre) / scene.half
    distances = KDTree(means).query(means, min(4, count))[0][:, 1:]
    scales = np.sqrt(np.maximum((distances**2).mean(1), 1e-7)) if count > 1 else np.full(1, 0.01)
    blend = None
    joints = np.full((count, 4), scene.bones.head, np.int64)
    weights = np.repeat(np.eye(4)[:1], count, 0)
    if config.space == "split" or config.blendshapes:
        model, vertices = _head_of(scene)
        if nearest is None:
            nearest = KDTree(vertices).query(means * scene.half + scene.centre)[1]
        if config.space == "split":
            joints = np.argsort(-model.skin_weights[nearest], axis=1, kind="stable")[:, :4]
            weights = np.take_along_axis(model.skin_weights[nearest], joints, 1)
        if config.blendshapes:
            order = [scene.dataset.expressions.index(n) for n in model.expression_names]
            blend = np.zeros((count, 3, len(scene.dataset.expressions)), np.float32)
            blend[..., order] = model.expression_basis[:, nearest].transpose(1, 2, 0) / scene.half
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return Start(means.astype(np.float32), scales.astype(np.float32), blend, joints.astype(np.int64), weights)


def _head_of(scene: Scene) -> tuple[HeadModel, np.ndarray]:
    model = load_free_head(1)
    return model, model.with_shape(scene.dataset.shape[: len(model.shape_basis)]).vertices


def _on_the_head(scene: Scene, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) metres in rest space, and the vertex of the head model that each belongs to."""
    model, vertices = _head_of(scene)
    normals = vertex_normals(vertices, model.faces)
    still = np.abs(model.expression_basis).max((0, 2)) < 5e-4
    skull = np.zeros(len(model), bool)
    skull[model.vertices_of("head")] = True
    scalp = np.flatnonzero(still & skull & (model.template[:, 1] > 0))
    shown = _shown(scene, model, vertices, normals)
    outer, outer_vertex = _out_to_the_matte(scene, int(count * OUTER_SHARE), rng)
    hair = int(count * HAIR_SHARE)
    surface = count - hair - len(outer)
    skin = np.flatnonzero(shown)
    chosen = rng.choice(skin, surface, replace=surface > len(skin))
    scalp = scalp[shown[scalp]] if shown[scalp].any() else scalp
    above = rng.choice(scalp, hair)
    layer = vertices[above] + rng.uniform(0, HAIR_DEPTH, (hair, 1)) * normals[above]
    return np.concatenate([vertices[chosen], layer, outer]), np.concatenate([chosen, above, outer_vertex])


def _shown(scene: Scene, model: HeadModel, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(V,) bool: vertices that face the camera, or nearly, in some picture; and the inside of the mouth."""
    shown = np.zeros(len(model), bool)
    for part in ("mouth_cavity", "teeth_upper", "teeth_lower", "tongue"):
        shown[model.vertices_of(part)] = True
    for view in _some_views(scene):
        T = scene.transforms(view)[model.skin_weights.argmax(1)]
        at = np.einsum("nij,nj->ni", T[:, :3, :3], vertices) + T[:, :3, 3]
        towards = view.camera.position - at
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        shown |= (np.einsum("nij,nj->ni", T[:, :3, :3], normals) * towards).sum(1) > NEARLY
    return shown


def _and_beyond(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """(M, 2) pixels and the mirror images of those near a border: who moves shows what lay beyond it."""
    band, size = BORDER * camera.height, np.array([camera.width, camera.height])
    found = [pixels]
    for axis in (0, 1):
        for border in (0, size[axis]):
            near = pixels[np.abs(pixels[:, axis] - border) < band].copy()
            near[:, axis] = 2 * border - near[:, axis]
            found.append(near)
    return np.concatenate(found)


def _some_views(scene: Scene) -> list[View]:
    dataset = scene.dataset
    learned = dataset.train or tuple(range(len(dataset)))
    return [dataset.views[i] for i in learned[:: max(1, len(learned) // OUTER_VIEWS)][:OUTER_VIEWS]]


def _out_to_the_matte(scene: Scene, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (<= count, 3) in rest space where mattes reach beyond the model, and their nearest vertices."""
    from scipy.spatial import KDTree

    model, vertices = _head_of(scene)
    points, owners, views = [], [], _some_views(scene)
    for view in views:
        _, alpha = scene.dataset.load(view)
        T = scene.transforms(view)
        seen = view.camera.project(lbs.skin(vertices, T, model.skin_weights).astype(np.float64))
        rows, columns = np.nonzero(alpha > 0.5)
        pixels = _and_beyond(np.stack([columns, rows], 1) + 0.5, view.camera)
        if not len(pixels):
            continue
        pixels = pixels[rng.choice(len(pixels), min(len(pixels), 20_000), replace=False)]
        distance, owner = (np.asarray(found) for found in KDTree(seen[:, :2]).query(pixels))
        beyond = np.flatnonzero(distance > 0.01 * view.camera.height)[: -(-count // len(views))]
        world = view.camera.unproject(pixels[beyond], seen[owner[beyond], 2])
        carrier = T[model.skin_weights[owner[beyond]].argmax(1)]
        points.append(np.einsum("nij,ni->nj", carrier[:, :3, :3], world - carrier[:, :3, 3]))
        owners.append(owner[beyond])
    if not points:
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    return np.concatenate(points)[:count], np.concatenate(owners)[:count]

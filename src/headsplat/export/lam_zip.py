"""The avatar archive of LAM's web viewer, written directly: no Blender, no FBX, no template files."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.glb import ELEMENT_ARRAY_BUFFER, GlbBuilder
from headsplat.export.ply import write_columns
from headsplat.export.rig_glb import joint_nodes, skin, top_four
from headsplat.export.still import still
from headsplat.files import writing
from headsplat.gaussians import axis_angle_to_quat

# The bones of LAM's whole-body rig that carry a head, and our joints that they stand for.
_BONES = ("hip", "chestUpper", "neckLower", "neckUpper", "head")
_BONE_PARENTS = (-1, 0, 1, 2, 3)
_BONE_OF_JOINT = {"root": "chestUpper", "neck": "neckLower"}  # every other joint rides on "head"
# LAM's meshes stand on the floor: the head joint is about here, metres.
_HEAD_HEIGHT = 1.62
_OPACITY_MARGIN = 1e-3
_CLIP_FPS = 30
# Name, seconds, and size of the sway in radians (nod, turn, tilt).
_CLIPS: tuple[tuple[str, float, tuple[float, float, float]], ...] = (
    ("idle", 8.0, (0.015, 0.03, 0.012)),
    ("hello", 4.0, (0.10, 0.06, 0.05)),
    *((f"speak{i}", 5.0 + i % 3, (0.05, 0.06, 0.03)) for i in range(1, 7)),
    *((f"think{i}", 6.0, (0.04, 0.10, 0.06)) for i in range(1, 4)),
    ("test", 4.0, (0.2, 0.3, 0.15)),
)


def export_lam_zip(avatar: Avatar, path: str | os.PathLike[str]) -> None:
    """Write `<name>/{skin.glb, offset.ply, animation.glb, vertex_order.json}` as LAM's web viewer loads them.

    The skinned mesh has one vertex per Gaussian, at its rest position, so all offsets are zero; its morph
    targets are the avatar's own expression offsets, by ARKit name. Jaw and eyes move by morphs there, not by
    joints. Colours go in as RGB, which is what that viewer wants in `f_dc`. Its limits stay: it moves centres
    but does not turn ellipsoids, and it shows neither `expression_frames` nor `expression_appearance`.

    Args:
        avatar: a rig avatar with RGB features; 20,000 Gaussians suit that viewer best.
        path: the `.zip` to write; its stem names the folder inside.

    Raises:
        HeadsplatError: the avatar has no RGB or fewer than 3 Gaussians, or `path` cannot be written.
    """
    cloud = still(avatar)
    if len(cloud) < 3:
        raise HeadsplatError(
            "An avatar of fewer than 3 Gaussians makes no mesh; LAM's viewer cannot show it."
        )
    standing = cloud.means + np.array([0, _HEAD_HEIGHT, 0], np.float32)
    order = np.argsort(standing[:, 1], kind="stable")
    opacities = np.clip(cloud.opacities.astype(np.float64), _OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
    offsets = io.BytesIO()
    write_columns(
        offsets,
        np.zeros_like(cloud.means),
        cloud.features,
        np.log(opacities / (1 - opacities)),
        np.log(cloud.scales),
        cloud.quats,
    )
    bones = _bone_positions(avatar)
    files = {
        "skin.glb": _skin_glb(avatar, standing, order, bones),
        "offset.ply": offsets.getvalue(),
        "animation.glb": _animation_glb(bones),
        "vertex_order.json": json.dumps(order.tolist(), separators=(",", ":")).encode(),
    }
    folder = Path(path).stem
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        # The viewer looks for an entry of the folder itself.
        archive.writestr(_entry(f"{folder}/", 0o40755), b"")
        for name, data in files.items():
            archive.writestr(_entry(f"{folder}/{name}", 0o100644), data)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    """A zip entry with a fixed date, so that the bytes repeat."""
    entry = zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    entry.external_attr = mode << 16
    return entry


def _bone_positions(avatar: Avatar) -> np.ndarray:
    """(5, 3) rest positions of `_BONES` in the standing space, metres."""
    joint = dict(zip(avatar.joints, avatar.joint_rest.astype(np.float64), strict=True))
    head = joint.get("head", np.zeros(3))
    neck = joint.get("neck", head - [0, 0.1, 0.02])
    chest = joint.get("root", neck - [0, 0.15, 0])
    positions = np.stack([chest - [0, 0.4, 0], chest, neck, (neck + head) / 2, head])
    return positions + np.array([0, _HEAD_HEIGHT, 0])


def _skin_glb(avatar: Avatar, positions: np.ndarray, order: np.ndarray, bones: np.ndarray) -> bytes:
    builder = GlbBuilder()
    n = len(positions)
    bone = np.array([_BONES.index(_BONE_OF_JOINT.get(name, "head")) for name in avatar.joints], np.uint8)
    # The viewer wants a skinned mesh but reads its vertices only: neighbours in height make its triangles.
    padded = np.concatenate([order, order[: -n % 3]])
    targets = []
    table = avatar.expression_means
    for e in range(len(avatar.expressions)):
        rows = slice(int(table.starts[e]), int(table.starts[e + 1]))
        changes = table.values[rows].astype(np.float32)
        targets.append({"POSITION": builder.sparse(table.index[rows], changes, n)})
    shares = np.zeros((n, len(_BONES)), np.float32)
    np.add.at(shares, (np.arange(n)[:, None], bone[avatar.skin_joints]), avatar.skin_weights)
    joints, weights = top_four(shares)
    primitive = {
        "attributes": {
            "POSITION": builder.accessor(positions.astype(np.float32), bounds=True),
            "JOINTS_0": builder.accessor(joints),
            "WEIGHTS_0": builder.accessor(weights),
        },
        "indices": builder.accessor(padded.astype(np.uint32), target=ELEMENT_ARRAY_BUFFER),
        "targets": targets,
    }
    names = list(avatar.expressions)
    mesh = {
        "name": "head",
        "primitives": [primitive],
        "weights": [0.0] * len(names),
        "extras": {"targetNames": names},
    }
    document = _document(builder, bones)
    document["meshes"] = [mesh]
    return builder.to_bytes(document)


def _animation_glb(bones: np.ndarray) -> bytes:
    """The rig with twelve clips, gentle motions of neck and head, and a triangle to carry the skin."""
    builder = GlbBuilder()
    head = len(_BONES)  # node 0 is the mesh, so bone j is node j + 1
    animations: list[dict[str, Any]] = []
    for seed, (name, seconds, size) in enumerate(_CLIPS):
        times = np.arange(int(seconds * _CLIP_FPS) + 1, dtype=np.float32) / _CLIP_FPS
        sway = _sway(times, seconds, np.array(size), seed)
        time = builder.accessor(times, target=None, bounds=True)
        samplers, channels = [], []
        for node, share in ((_BONES.index("neckLower") + 1, 0.4), (head, 0.6)):
            quats = np.roll(axis_angle_to_quat(sway * share), -1, axis=1).astype(np.float32)
            output = builder.accessor(quats, target=None)
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": "rotation"}})
            samplers.append({"input": time, "output": output, "interpolation": "LINEAR"})
        animations.append({"name": name, "samplers": samplers, "channels": channels})
    corners = bones[-1] + 0.01 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    joints = np.array([[head - 1, 0, 0, 0]] * 3, np.uint8)
    weights = np.array([[1, 0, 0, 0]] * 3, np.float32)
    primitive = {
        "attributes": {
            "POSITION": builder.accessor(corners.astype(np.float32), bounds=True),
            "JOINTS_0": builder.accessor(joints),
            "WEIGHTS_0": builder.accessor(weights),
        }
    }
    document = _document(builder, bones)
    document["meshes"] = [{"name": "placeholder", "primitives": [primitive]}]
    document["animations"] = animations
    return builder.to_bytes(document)


def _document(builder: GlbBuilder, bones: np.ndarray) -> dict[str, Any]:
    """A scene of one skinned mesh (node 0) on the rig (nodes 1 to 5)."""
    return {
        "scene": 0,
        "scenes": [{"name": "avatar", "nodes": [0, 1]}],
        "nodes": [
            {"name": "head_mesh", "mesh": 0, "skin": 0},
            *joint_nodes(_BONES, _BONE_PARENTS, bones, first=1),
        ],
        "skins": [skin(builder, bones, first=1)],
    }


def _sway(times: np.ndarray, seconds: float, size: np.ndarray, seed: int) -> np.ndarray:
    """(T, 3) rotation vectors: a few low harmonics, zero at both ends so that clips loop and join."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * times[:, None, None] / seconds
    harmonics = np.arange(1, 5)
    strength = rng.normal(size=(3, 4)) / harmonics
    waves = (strength * np.sin(phase * harmonics)).sum(-1)
    return waves / np.abs(waves).max(0) * size

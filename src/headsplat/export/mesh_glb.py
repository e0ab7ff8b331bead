"""A rigged head mesh for Blender, Unity and Unreal: skin, the 52 ARKit morph targets, one baked texture."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.bake_texture import bake_texture
from headsplat.export.glb import ELEMENT_ARRAY_BUFFER, GlbBuilder
from headsplat.export.rig_glb import joint_nodes, skin, top_four
from headsplat.export.still import still
from headsplat.files import writing
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel, ShapedHead
from headsplat.head.normals import vertex_normals
from headsplat.takes import eye_turns


def export_mesh_glb(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    texture: int = 1024,
    hair: bool = True,
    gaze: Literal["morphs", "joints"] = "morphs",
) -> None:
    """Write the head under the avatar as a skinned mesh with named morph targets and a baked texture.

    The mesh is the head model that the avatar was fitted with (`avatar.info["head"]`), in its shape, scalp
    and torso pulled out to the avatar's hair and clothes; finer shapes are paint. Metres, y up, facing +z.
    Needs the packages of `headsplat[create]`.

    Args:
        avatar: an avatar that knows its head.
        path: the `.glb` to write.
        texture: texels per side.
        hair: pull scalp and torso out to hair and clothes; False keeps the bald head of the model.
        gaze: "morphs" = eyeLook* targets turn the eyeballs, too (what ARKit apps expect; leave the eye joints
            alone then); "joints" = they move the lids only, as in headsplat itself.

    Raises:
        HeadsplatError: the avatar does not know its head, has no RGB, or `path` cannot be written.
    """
    shaped, cloud = fitted_head(avatar), still(avatar)
    model = shaped.model
    morphs = _morphs(shaped, gaze)
    if hair:
        from headsplat.export.drape import drape

        shaped = replace(shaped, vertices=drape(shaped, cloud))
    pixels = bake_texture(cloud, shaped.vertices, model.faces, model.uv, model.uv_faces, texture)
    data = _mesh_glb(shaped, morphs, pixels)
    with writing(path) as temporary:
        temporary.write_bytes(data)


def fitted_head(avatar: Avatar) -> ShapedHead:
    """The parametric head that an avatar was built on, in the avatar's shape and rest pose.

    Raises:
        HeadsplatError: the avatar does not say which, or says one that does not come with headsplat.
    """
    head = avatar.info.get("head")
    if not isinstance(head, dict) or head.get("model") != "free":
        raise HeadsplatError(
            f"This avatar (method {avatar.method!r}) does not carry the free head that a rigged mesh is"
            " made of; export .ply, .spz or the splat .glb instead."
        )
    shape = np.asarray(head.get("shape", ()), np.float32)
    if shape.ndim != 1 or not np.isfinite(shape).all():
        raise HeadsplatError("The avatar's head shape is not a list of numbers; create the avatar again.")
    return load_free_head().with_shape(shape)


def _morphs(shaped: ShapedHead, gaze: Literal["morphs", "joints"]) -> np.ndarray:
    """(E, V, 3) metres of each expression at weight 1."""
    model = shaped.model
    morphs = np.array(model.expression_basis, np.float32)
    if gaze == "joints":
        return morphs
    for morph, name in zip(morphs, model.expression_names, strict=True):
        if name.startswith("eyeLook"):
            left, right = eye_turns((name,), np.ones((1, 1)))
            turned = shaped.with_pose(None, {"left_eye": left[0], "right_eye": right[0]}).vertices
            balls = model.vertices_of("left_eye", "right_eye")
            morph[balls] += (turned - shaped.vertices)[balls]
    return morphs


def _mesh_glb(shaped: ShapedHead, morphs: np.ndarray, pixels: np.ndarray) -> bytes:
    model = shaped.model
    vertex, texel, faces = _split_at_seams(model)
    joints, weights = top_four(model.skin_weights[vertex])
    builder = GlbBuilder()
    attributes = {
        "POSITION": builder.accessor(shaped.vertices[vertex].astype(np.float32), bounds=True),
        "NORMAL": builder.accessor(vertex_normals(shaped.vertices, model.faces)[vertex].astype(np.float32)),
        "TEXCOORD_0": builder.accessor(
            np.stack([model.uv[texel, 0], 1 - model.uv[texel, 1]], 1).astype("f4")
        ),
        "JOINTS_0": builder.accessor(joints),
        "WEIGHTS_0": builder.accessor(weights),
    }
    primitive = {
        "attributes": attributes,
        "indices": builder.accessor(faces.reshape(-1).astype(np.uint32), target=ELEMENT_ARRAY_BUFFER),
        "material": 0,
        "targets": [{"POSITION": builder.accessor(morph[vertex], bounds=True)} for morph in morphs],
    }
    material = {
        "name": "head",
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicFactor": 0.0,
            "roughnessFactor": 0.9,
        },
        "doubleSided": True,
    }
    names = list(model.expression_names)
    document: dict[str, Any] = {
        "scene": 0,
        "scenes": [{"name": "avatar", "nodes": [0, 1]}],
        "nodes": [
            {"name": "head_mesh", "mesh": 0, "skin": 0},
            *joint_nodes(model.joint_names, model.parents.tolist(), shaped.joints, first=1),
        ],
        "meshes": [
            {
                "name": "head",
                "primitives": [primitive],
                "weights": [0.0] * len(names),
                "extras": {"targetNames": names},
            }
        ],
        "skins": [skin(builder, shaped.joints, first=1)],
        "materials": [material],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "images": [{"name": "colors", "mimeType": "image/jpeg", "bufferView": builder.view(_jpeg(pixels))}],
    }
    return builder.to_bytes(document)


def _split_at_seams(model: HeadModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One glTF vertex per (vertex, texture vertex) pair: indices (P,), (P,) and faces (F, 3) into them."""
    pairs = np.stack([model.faces.reshape(-1), model.uv_faces.reshape(-1)], 1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.reshape(-1, 3)


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()

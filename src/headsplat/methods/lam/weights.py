"""Read LAM checkpoints, the released one and our own: safetensors only, every name and shape checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.head.model import HeadModel
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam.config import LamConfig, released_20k
from headsplat.methods.lam.model import Lam, frequency_basis

FLAME_PREFIX = "renderer.flame_model."
FLAME_PARENTS = (-1, 0, 1, 1, 1)
FLAME_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
FLAME_SHAPES = 300
CONFIG_KEY = "headsplat.lam"
_NORM = re.compile(r"(^|\.)norm[^.]*\.weight$")


def load_lam(
    path: str | os.PathLike[str], config: LamConfig | None = None, shapes: int = FLAME_SHAPES
) -> tuple[Lam, HeadModel | None]:
    """The network of a checkpoint in evaluation mode, and the head model in it if there is one.

    A file without settings of our own is taken for the released LAM-20K. Half-precision files are widened to
    float32.

    Args:
        path: a .safetensors file.
        config: the sizes, if the file is neither the released one nor ours.
        shapes: how many blendshapes of a head model in the file are identity; the others are expressions.

    Raises:
        HeadsplatError: not a safetensors file, cut off, of another network, or with damaged numbers; the
            first bad key is named.
    """
    path = Path(path)
    tensors, text = _read(path)
    try:
        if config is None:
            config = released_20k() if text is None else LamConfig.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise HeadsplatError(f"{path} has unreadable settings; it comes from another headsplat.") from error
    head = _pop_head(tensors, path, shapes)
    return build(config, tensors, path), head


def build(config: LamConfig, tensors: Mapping[str, Tensor], name: str | os.PathLike[str]) -> Lam:
    """A network of these settings with these tensors, in evaluation mode.

    Args:
        config: what the tensors must fit.
        tensors: every tensor by its key; `pcl_embed.basis` may be left out.
        name: what to call the tensors' source in messages.

    Raises:
        HeadsplatError: naming the first key that is missing, unknown, of the wrong shape or implausible.
    """
    with torch.device("meta"):
        model = Lam(config)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = dict(tensors)
    if "pcl_embed.basis" in wanted:
        given.setdefault("pcl_embed.basis", frequency_basis(config.octaves))
    for key, shape in wanted.items():
        if key not in given:
            raise HeadsplatError(f"{name} has no {key}; it is not a checkpoint of this LAM.")
        if tuple(given[key].shape) != shape:
            raise HeadsplatError(
                f"{name} has {key} of shape {tuple(given[key].shape)}, not {shape}; "
                "it is damaged or of another size of LAM."
            )
        _check_values(key, given[key], config, name)
    for key in given:
        if key not in wanted:
            raise HeadsplatError(f"{name} has {key}, which this LAM does not know; it is of another network.")
    model.load_state_dict({key: given[key].float() for key in wanted}, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if config.freeze_encoder:
        model.encoder.model.requires_grad_(False)
    return model.eval()


def save_lam(model: Lam, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint of ours: the tensors under the released names, and the settings.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={CONFIG_KEY: model.config.to_json()})


def head_from_arrays(arrays: Mapping[str, np.ndarray], shapes: int = FLAME_SHAPES) -> HeadModel:
    """A head model from arrays under the names of FLAME's file.

    Args:
        arrays: v_template (V, 3), shapedirs (V, 3, shapes + expressions), J_regressor (5, V), weights (V, 5),
            f (F, 3) and optionally posedirs (V, 3, 36).
        shapes: how many of the shapedirs are identity.
    """
    template = np.asarray(arrays["v_template"], np.float32)
    basis = np.moveaxis(np.asarray(arrays["shapedirs"], np.float32), -1, 0)
    regressor = np.asarray(arrays["J_regressor"], np.float32)
    faces = np.asarray(arrays["f"], np.int32)
    pose = None
    if "posedirs" in arrays:
        pose = np.ascontiguousarray(np.moveaxis(np.asarray(arrays["posedirs"], np.float32), -1, 0))
    joint_basis = np.einsum("jv,bvc->bjc", regressor, basis).astype(np.float32)
    return HeadModel(
        template=template,
        shape_basis=np.ascontiguousarray(basis[:shapes]),
        shape_symmetric=np.zeros(shapes, bool),
        expression_basis=np.ascontiguousarray(basis[shapes:]),
        expression_names=tuple(f"expr{i}" for i in range(len(basis) - shapes)),
        joint_template=regressor @ template,
        joint_shape=joint_basis[:shapes],
        joint_names=FLAME_JOINTS,
        parents=np.array(FLAME_PARENTS, np.int32),
        skin_weights=np.asarray(arrays["weights"], np.float32),
        faces=faces,
        uv=np.zeros((1, 2), np.float32),
        uv_faces=np.zeros_like(faces),
        face_part=np.zeros(len(faces), np.uint8),
        part_names=("head",),
        pose_basis=pose,
        joint_expression=joint_basis[shapes:],
    )


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """All tensors of a safetensors file, and our settings if it carries them."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check the name.") from error
    if start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise HeadsplatError(
            f"{path} is a pickle, which can run any code when opened; get the .safetensors file instead."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            return tensors, (file.metadata() or {}).get(CONFIG_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is not a whole safetensors file ({error}); download it again."
        ) from error


def _check_values(key: str, value: Tensor, config: LamConfig, name: str | os.PathLike[str]) -> None:
    if not value.is_floating_point():
        raise HeadsplatError(f"{name} has {key} as {value.dtype}, not as real numbers; it is damaged.")
    if not torch.isfinite(value).all():
        raise HeadsplatError(f"{name} has {key} with numbers that are not finite; it is damaged.")
    table = frequency_basis(config.octaves)
    if key == "pcl_embed.basis" and not torch.allclose(value.float(), table, rtol=1e-2):
        raise HeadsplatError(f"{name} has {key} with frequencies other than LAM's; its tensors are mixed up.")
    # Gains of norms start at one and stay around it; biases, which have the same shapes, lie around zero.
    if _NORM.search(key) and value.float().mean() <= 0:
        raise HeadsplatError(
            f"{name} has {key} with a mean of {value.float().mean():.3g}, which no gain of a norm has; "
            "its tensors are mixed up."
        )


def _pop_head(tensors: dict[str, Tensor], path: Path, shapes: int) -> HeadModel | None:
    """Take FLAME's buffers out of a checkpoint's tensors and make a head model of them, if all are there."""
    found = {
        key.removeprefix(FLAME_PREFIX): tensors.pop(key).numpy()
        for key in [*tensors]
        if key.startswith(FLAME_PREFIX)
    }
    if not {"v_template", "shapedirs", "J_regressor", "lbs_weights", "faces_up"} <= found.keys():
        return None
    if "parents" in found and tuple(found["parents"].tolist()) != FLAME_PARENTS:
        raise HeadsplatError(f"{path} has {FLAME_PREFIX}parents other than FLAME's; it is damaged.")
    count = len(found["v_template"])
    size = found["shapedirs"].shape
    if size[:2] != (count, 3) or len(size) != 3 or size[2] <= shapes:
        raise HeadsplatError(
            f"{path} has {FLAME_PREFIX}shapedirs of shape {size}, not ({count}, 3, more than {shapes}); "
            "it is of another FLAME."
        )
    # The first three quarters of the subdivided triangles start at the corners a, b and c of the originals.
    corners = found["faces_up"].reshape(4, -1, 3)[:3, :, 0].T
    head = head_from_arrays(
        {
            "v_template": found["v_template"],
            "shapedirs": found["shapedirs"],
            "J_regressor": found["J_regressor"],
            "weights": found["lbs_weights"],
            "f": corners,
        },
        shapes,
    )
    if "v_template_up" in found:
        fine = subdivide(head).template
        if fine.shape != found["v_template_up"].shape or np.abs(fine - found["v_template_up"]).max() > 1e-5:
            raise HeadsplatError(
                f"{path} has {FLAME_PREFIX}v_template_up that is not its template subdivided; it is damaged."
            )
    return head

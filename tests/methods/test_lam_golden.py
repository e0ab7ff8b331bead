"""LAM against numbers of the published network, stage by stage, each within its stated tolerance.

`HEADSPLAT_GOLDEN` names another folder in the same layout (`recipe.py`, `lam/index.json`, ...).
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_recipe import FOLDER, recipe

from headsplat.camera import Camera
from headsplat.data.flame_folder import read_flame_folder
from headsplat.drive import read_motion
from headsplat.errors import HeadsplatError
from headsplat.head.flame import flame_from_arrays
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.create import create_avatar
from headsplat.methods.lam.model import Lam, Prediction
from headsplat.methods.lam.preprocess import prepare_image
from headsplat.methods.lam.rig import Pose, Rig
from headsplat.methods.lam.weights import build, load_lam
from headsplat.nets.vit import VitConfig

INDEX: dict[str, Any] = json.loads((FOLDER / "lam" / "index.json").read_text())
SEED = INDEX["seed"]


def config_of(sizes: dict[str, int]) -> LamConfig:
    encoder = VitConfig(
        sizes["enc_width"],
        sizes["enc_depth"],
        sizes["enc_heads"],
        sizes["patch"],
        sizes["enc_grid"],
        registers=4,
    )
    return LamConfig(
        encoder=encoder,
        taps=(0, 1, 2, 3),
        image_size=sizes["image"],
        fused_width=sizes["enc_out"],
        width=sizes["width"],
        heads=sizes["heads"],
        layers=sizes["layers"],
        trunk=sizes["neurons"],
        subdivisions=sizes["subdivide"],
        max_offset=sizes["offset_step"] / 2,
        max_scale=sizes["clip_scale"],
    )


def inputs(which: str) -> dict[str, np.ndarray]:
    sizes, draw = INDEX["sizes"][which], recipe().draw
    views = sizes["views"]
    if which == "toy":
        image = recipe().flat("in.image", SEED, (1, 3, sizes["image"], sizes["image"]))
    else:
        image = recipe().picture("in.image", SEED, sizes["image"])
    found = {
        "image": image,
        "expr": draw("in.expr", SEED, (1, views, sizes["expr"])),
        "translation": draw("in.translation", SEED, (1, views, 3), 0.05),
        "betas": draw("in.betas", SEED, (1, sizes["shape"])),
    }
    for name, width in {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6}.items():
        found[name] = draw(f"in.{name}", SEED, (1, views, width), 0.3)
    found["rotation"][0, 0] = 0
    return found


def head_of(sizes: dict[str, int]) -> Any:
    arrays = recipe().lam_head(SEED)
    shapes, expressions = sizes["shape"], sizes["expr"]
    columns = [*range(shapes), *range(300, 300 + expressions)]
    arrays["shapedirs"] = arrays["shapedirs"][:, :, columns]
    return flame_from_arrays(arrays, expressions=expressions)


@lru_cache
def network(which: str) -> Lam:
    keys = INDEX[f"{which}_keys"]
    tensors = {
        key: torch.from_numpy(recipe().weight(recipe().LAM, key, shape, SEED))
        for key, (shape, _) in keys.items()
        if not key.startswith("renderer.flame_model.") and key != "pcl_embed.basis"
    }
    return build(config_of(INDEX["sizes"][which]), tensors, "the golden recipe")


def stages(model: Lam, which: str) -> dict[str, np.ndarray]:
    """Every stage that the golden files name, from the parts of the model as it runs."""
    found: dict[str, Any] = {}
    given = inputs(which)
    found |= {f"in.{name}": value for name, value in given.items()}

    def keep(name: str, part: int | None = None) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            found[name] = output if part is None else output[part]

        return hook

    def watch(module: Any, name: str, part: int | None = None) -> None:
        handles.append(module.register_forward_hook(keep(name, part)))

    handles: list[Any] = []
    vit = model.encoder.model
    watch(vit.patch_embed, "enc.patch_embed")
    vit.blocks[0].register_forward_pre_hook(lambda module, args: found.update({"enc.tokens_in": args[0]}))
    watch(vit.blocks[0].attn, "enc.block.0.attn")
    taps: list[Any] = []
    vit.norm.register_forward_hook(lambda module, args, output: taps.append(output[:, 5:]))
    for i, block in enumerate(vit.blocks):
        watch(block, f"enc.block.{i}")
        watch(model.encoder.fusion_head.projects[i], f"enc.project.{i}")
    watch(model.encoder.fusion_head, "enc.fused_map")
    watch(model.encoder, "enc.tokens_out")
    watch(model.pcl_embed.mlp, "tok.point_embed_before_norm")
    watch(model.pcl_embed, "tok.point_embed")
    watch(model.transformer.linear_cond_proj, "tok.context_in")
    for i, layer in enumerate(model.transformer.layers):
        watch(layer.attn.norm_q, f"layer.{i}.q_normed")
        watch(layer.attn.to_out[0], f"layer.{i}.attn.points")
        watch(layer.ff, f"layer.{i}.ff.points")
        watch(layer, f"layer.{i}.points", 0)
        if layer.attn.to_add_out is not None:
            watch(layer.attn.to_add_out, f"layer.{i}.attn.context")
            watch(layer, f"layer.{i}.context", 1)
    watch(model.transformer, "tok.final")
    watch(model.renderer.mlp_net, "head.mlp")
    for name, layer in model.renderer.gs_net.out_layers.items():
        watch(layer, f"head.raw.{name}")

    rig = Rig.of(head_of(INDEX["sizes"][which]), model.config)
    betas = torch.from_numpy(given["betas"])
    points = rig.points(betas)
    with torch.no_grad():
        out = model(torch.from_numpy(given["image"]), points)
        pose = pose_of(given)
        posed = rig.pose_points(out.means[0], betas[0], pose)
        at_origin = pose._replace(T_world_root=torch.eye(4).expand_as(pose.T_world_root))
        transforms = rig.transforms(betas[0], at_origin)
        joints = rig.joint_template + torch.einsum("s,sjc->jc", betas[0], rig.joint_shape)
        joints = joints + torch.einsum("fe,ejc->fjc", pose.expression, rig.joint_expression)
    for handle in handles:
        handle.remove()
    found["enc.patch_embed"] = found["enc.patch_embed"].flatten(2).transpose(1, 2)
    found |= {f"enc.tap.{i}": tap for i, tap in enumerate(taps)}
    found |= {name: value[0] for name, value in found.items() if name.startswith("head.")}
    head = head_of(INDEX["sizes"][which])
    found |= {
        "out.query_points": points,
        "out.canonical.xyz": out.means[0],
        "out.canonical.offset": out.offsets[0],
        "out.canonical.opacity": out.opacities[0][:, None],
        "out.canonical.rotation": out.quats[0],
        "out.canonical.scaling": out.scales[0],
        "out.canonical.shs": out.colours[0][:, None],
        "out.posed_xyz": posed,
        "lbs.shaped_vertices": head.with_shape(given["betas"][0]).vertices
        + np.einsum("fe,evc->fvc", given["expr"][0], head.expression_basis),
        "lbs.relative_transforms": transforms,
        "lbs.posed_joints": torch.einsum("fjab,fjb->fja", transforms[..., :3, :3], joints)
        + transforms[..., :3, 3],
        "flame.v_template_up": rig.head.template,
        "flame.lbs_weights_up": rig.head.skin_weights,
        "flame.faces_up": rig.head.faces,
    }
    found |= {f"flame.{name}": value for name, value in recipe().lam_head(SEED).items()}
    return {k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in found.items()}


def pose_of(given: dict[str, np.ndarray]) -> Pose:
    parts = [given[name][0] for name in ("rotation", "neck_pose", "jaw_pose", "eyes_pose")]
    rotations = np.concatenate(parts, -1).reshape(len(parts[0]), 5, 3)
    root = torch.eye(4).repeat(len(rotations), 1, 1)
    root[:, :3, 3] = torch.from_numpy(given["translation"][0])
    return Pose(torch.from_numpy(given["expr"][0]), torch.from_numpy(rotations), root)


def compare(found: dict[str, np.ndarray], file: str) -> int:
    """Check every stored array of a golden file that `found` has; the number of arrays checked."""
    gold, notes = np.load(FOLDER / "lam" / file), INDEX["arrays"][file]
    checked = 0
    for name, note in notes.items():
        stage, _, kind = name.rpartition(".")
        whole = "of" not in note
        value = found.get(name if whole else stage)
        if value is None:
            continue
        assert list(value.shape) == (note["shape"] if whole else note["of"]), name
        value = value.astype(np.float64)
        if kind == "part" and not whole:
            value = recipe().take(value, note["cut"])
        elif not whole:
            value = getattr(value, kind)(tuple(note["over_axes"]))
        error = np.abs(value - gold[name]).max()
        assert error <= note["bar"], f"{name}: off by {error:.2e}, allowed {note['bar']:.2e}"
        checked += 1
    return checked


def names(file: str, *starts: str) -> list[str]:
    return [name for name in INDEX["arrays"][file] if name.startswith(starts)]


def test_toy_network_agrees_at_every_stage() -> None:
    model = network("toy")
    found = stages(model, "toy") | tiny_norms(model)
    assert compare(found, "toy.npz") == len(INDEX["arrays"]["toy.npz"])


def test_full_width_network_agrees_at_every_stage() -> None:
    assert compare(stages(network("wide"), "wide"), "wide.npz") == len(INDEX["arrays"]["wide.npz"])


def tiny_norms(model: Lam) -> dict[str, np.ndarray]:
    """Single norms on inputs so small that the constant inside them matters."""
    found = {}
    for name in names("toy.npz", "tiny."):
        norm = model.get_submodule(name.removeprefix("tiny."))
        width = INDEX["arrays"]["toy.npz"][name]["shape"][-1]
        x = torch.from_numpy(recipe().draw(f"in.tiny.{width}", SEED, (1, 5, width), 0.002))
        found[name] = norm(x).detach().numpy()
    return found


def test_rebuilt_weights_are_those_of_the_golden_run() -> None:
    state = network("wide").state_dict()
    for key, (total, absolute) in INDEX["wide_weight_sum_and_abssum"].items():
        if key in state and key != "pcl_embed.basis":
            value = state[key].double()
            assert value.sum().item() == pytest.approx(total, abs=1e-7 * absolute), key
            assert value.abs().sum().item() == pytest.approx(absolute, rel=1e-7), key


def test_toy_checkpoint_file_loads_and_gives_the_same_numbers() -> None:
    path = FOLDER / "lam" / "toy_weights.safetensors"
    sizes = INDEX["sizes"]["toy"]
    model, head = load_lam(path, config_of(sizes), expressions=sizes["expr"])
    assert head is not None and head.faces.tolist() == recipe().lam_head(SEED)["f"].tolist()
    rebuilt = network("toy")
    for key, value in model.state_dict().items():
        assert torch.equal(value, rebuilt.state_dict()[key]), key
    fine = subdivide(head)
    np.testing.assert_array_equal(fine.faces, np.load(FOLDER / "lam" / "toy.npz")["flame.faces_up"])


def test_camera_of_a_motion_folder() -> None:
    gold = np.load(FOLDER / "lam" / "camera_and_image.npz")
    K = gold["cam.intrinsic"][:3, :3]
    camera = Camera(np.linalg.inv(gold["cam.c2w"].astype(np.float64)).astype(np.float32), K, 512, 512)
    fov = 2 * np.arctan(np.array([camera.width / (2 * K[0, 0]), camera.height / (2 * K[1, 1])]))
    found = {
        "cam.view_row_major_T": np.asarray(camera.viewmat).T,
        "cam.center": camera.position,
        "cam.fov": fov,
    }
    assert compare(found, "camera_and_image.npz") == 3


def test_picture_preparation() -> None:
    gold = np.load(FOLDER / "lam" / "camera_and_image.npz")
    picture = recipe().whole("pre.rgb", SEED, 0, 256, (1024, 1024, 3)).astype(np.uint8)
    y0, y1, x0, x1 = gold["pre.mask_box_y0_y1_x0_x1"]
    mask = np.zeros((1024, 1024), np.uint8)
    mask[y0:y1, x0:x1] = 255
    mask[y0 + 50 : y0 + 90, x0 + 40 : x0 + 80] = 181
    mask[y0 + 100 : y0 + 140, x0 + 40 : x0 + 80] = 180
    image = picture.astype(np.float32) / 255
    found = {}
    for name, alpha in {"masked": mask, "whole": np.full_like(mask, 255)}.items():
        rgb, matte = prepare_image(image, alpha.astype(np.float32) / 255, 504)
        found[f"pre.{name}.rgb"] = rgb.transpose(2, 0, 1)[None]
        found[f"pre.{name}.mask"] = matte[None, None]
    assert compare(found, "camera_and_image.npz") == len(names("camera_and_image.npz", "pre.")) - 1


def write_motion_folder(folder: Path) -> None:
    """The four frames that the golden numbers were read from."""
    draw = recipe().draw
    (folder / "flame_param").mkdir(parents=True)
    rows = draw("motion.transform", SEED, (4, 3, 4))
    frames = []
    for i in (2, 0, 3, 1):
        matrix = np.vstack([rows[i], [0, 0, 0, 1]]).tolist()
        frames.append({"flame_param_path": f"flame_param/{i:05d}.npz", "transform_matrix": matrix,
                       "fl_x": 2000 + i, "fl_y": 2010 + i, "cx": 512, "cy": 512})  # fmt: skip
        sizes = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": 100}
        values = {name: draw(f"motion.{i}.{name}", SEED, (1, n)) for name, n in sizes.items()}
        np.savez(folder / f"flame_param/{i:05d}.npz", **values)
    np.savez(folder / "canonical_flame_param.npz", shape=draw("motion.betas", SEED, (300,)))
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def test_motion_folder(tmp_path: Path) -> None:
    write_motion_folder(tmp_path)
    sequence = read_flame_folder(tmp_path)
    motion = sequence.motion
    assert motion.root is not None
    intrinsics = np.tile(np.eye(4), (1, 4, 1, 1))
    intrinsics[0, :, :3, :3] = [camera.K for camera in sequence.cameras]
    joints = dict(zip(motion.joints, motion.rotations.transpose(1, 0, 2), strict=True))
    found = {
        "motion.render_c2ws": np.linalg.inv([np.asarray(c.viewmat, np.float64) for c in sequence.cameras])[
            None
        ],
        "motion.render_intrinsics": intrinsics,
        "motion.flame.expr": motion.weights[None],
        "motion.flame.rotation": joints["root"][None],
        "motion.flame.neck_pose": joints["neck"][None],
        "motion.flame.jaw_pose": joints["jaw"][None],
        "motion.flame.eyes_pose": np.concatenate([joints["left_eye"], joints["right_eye"]], -1)[None],
        "motion.flame.translation": motion.root[None, :, :3, 3],
        "motion.flame.betas": sequence.betas[None],
    }
    count = compare(found, "camera_and_image.npz")
    assert count == len(names("camera_and_image.npz", "motion."))
    assert (sequence.cameras[0].width, sequence.cameras[0].height) == (512, 512)


@pytest.mark.parametrize("name", ["transforms.json", "canonical_flame_param.npz", "flame_param/00002.npz"])
def test_motion_folder_with_a_file_missing_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_motion_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(HeadsplatError, match=Path(name).name):
        read_flame_folder(tmp_path)


def test_a_motion_folder_drives_an_avatar_on_flame_as_the_rig_does(tmp_path: Path) -> None:
    write_motion_folder(tmp_path)
    motion = read_motion(tmp_path)
    head = flame_from_arrays(recipe().lam_head(SEED))
    config = replace(config_of(INDEX["sizes"]["wide"]), subdivisions=0, joints_follow_expression=False)
    rig = Rig.of(head, config)
    points, betas = torch.from_numpy(head.template), torch.zeros(0)
    count = len(points)
    prediction = Prediction(
        means=points[None],
        offsets=torch.zeros(1, count, 3),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        scales=torch.full((1, count, 3), 0.01),
        opacities=torch.ones(1, count),
        colours=torch.rand(1, count, 3),
        wrinkles=None,
    )
    avatar = create_avatar(rig, prediction, np.zeros(0, np.float32), seen=np.ones(count))
    # Skinning with four of five joints: put all weight on them, for the numbers to agree.
    kept = np.zeros_like(head.skin_weights)
    np.put_along_axis(kept, avatar.skin_joints.astype(int), avatar.skin_weights, 1)
    rig = replace(rig, skin_weights=torch.from_numpy(kept))
    assert motion.root is not None
    pose = Pose(*(torch.from_numpy(a) for a in (motion.weights, motion.rotations, motion.root)))
    posed = rig.pose_points(points, betas, pose).numpy()
    for frame in range(len(motion)):
        drawn = avatar.animate(**motion.pose(frame))
        # A hundred expressions, each with changes under 0.05 mm left out.
        np.testing.assert_allclose(drawn.means, posed[frame], atol=1e-3)

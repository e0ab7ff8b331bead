"""From a tracked picture and a checkpoint to an avatar that plays everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_recipe import recipe
from lam_cases import TINY, make_frame
from safetensors.torch import load_file, save_file
from skimage.data import astronaut

import headsplat
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.cli import main
from headsplat.data.image import write_image
from headsplat.errors import HeadsplatError
from headsplat.head.flame import flame_from_arrays
from headsplat.head.free import load_free_head
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.create import reconstruct, seen_share
from headsplat.methods.lam.model import Lam
from headsplat.methods.lam.preprocess import head_square, prepare_image, resize_area
from headsplat.methods.lam.rig import Rig
from headsplat.methods.lam.train import pose_of, predict, source_of
from headsplat.methods.lam.weights import load_lam, save_lam
from headsplat.raster import rasterize


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(replace(TINY, expressions=52), tmp_path / "small.safetensors")


def write(config: LamConfig, path: Path) -> Path:
    torch.manual_seed(0)
    model = Lam(config)
    with torch.no_grad():
        for layer in model.renderer.gs_net.out_layers.values():
            layer.weight.add_(0.1 * torch.randn_like(layer.weight))
    save_lam(model, path)
    return path


def test_avatar_moves_as_in_training(checkpoint: Path) -> None:
    frame = make_frame(1)
    avatar = reconstruct(frame, checkpoint)
    model, _ = load_lam(checkpoint)
    rig = Rig.of(load_free_head(), model.config)
    with torch.no_grad():
        prediction = predict(model, rig, source_of(frame, model.config))
        cloud = rig.gaussians(prediction, torch.from_numpy(frame.shape), pose_of([frame]))[0]
    drawn = avatar.animate(frame.expression, dict(zip(avatar.joints, frame.rotations, strict=True)))
    # Changes under a threshold are not stored; three expressions are on.
    np.testing.assert_allclose(drawn.means, cloud.means.numpy(), atol=3.5e-4)
    np.testing.assert_allclose(drawn.features, cloud.features.numpy(), atol=0.025)
    np.testing.assert_allclose(drawn.scales, cloud.scales.numpy(), atol=1e-7)
    assert avatar.method == "lam" and avatar.source == frame.source
    assert avatar.expressions == load_free_head().expression_names
    assert "licence" not in avatar.info and avatar.info["weights"] == "small.safetensors"


def test_avatar_survives_its_file_and_draws(checkpoint: Path, tmp_path: Path) -> None:
    avatar = reconstruct(make_frame(2), checkpoint)
    save_avatar(avatar, tmp_path / "a.avatar")
    again = load_avatar(tmp_path / "a.avatar")
    frame = make_frame(2)
    images = [rasterize(a.animate({"jawOpen": 0.5}), frame.camera).image for a in (avatar, again)]
    assert images[0].max() > 0.05 and np.isfinite(images[0]).all()
    assert np.abs(images[0] - images[1]).mean() < 0.01


def test_seen_is_the_side_that_faces_the_camera() -> None:
    head, frame = load_free_head(), make_frame(3)
    view = np.diag([1.0, -1, -1, 1]).astype(np.float32)
    view[2, 3] = 1.2
    camera = replace(frame.camera, viewmat=view)
    seen = seen_share(head.template, head.faces, camera, np.ones((48, 48), np.float32))
    scalp = head.vertices_of("head")
    front, back = (scalp[np.argsort(head.template[scalp, 2])[k]] for k in (slice(-50, None), slice(50)))
    assert seen[front].mean() > 0.6 and seen[back].mean() < 0.05
    assert ((0 <= seen) & (seen <= 1)).all()
    assert not seen_share(head.template, head.faces, camera, np.zeros((48, 48), np.float32)).any()


def flame_arrays() -> dict[str, np.ndarray]:
    return recipe().lam_head(7)


def write_on_flame(path: Path, *, with_head: bool) -> Path:
    write(replace(TINY, head="flame", attention="joint"), path)
    if with_head:
        arrays = flame_arrays()
        head = flame_from_arrays(arrays)
        from headsplat.head.subdivide import subdivide

        fine = subdivide(head)
        buffers = {
            "v_template": head.template,
            "shapedirs": arrays["shapedirs"],
            "posedirs": arrays["posedirs"].reshape(-1, 36).T,
            "J_regressor": arrays["J_regressor"],
            "lbs_weights": arrays["weights"],
            "parents": np.array([-1, 0, 1, 1, 1]),
            "faces_up": fine.faces,
            "v_template_up": fine.template,
        }
        tensors = load_file(path) | {
            f"renderer.flame_model.{name}": torch.from_numpy(np.ascontiguousarray(value))
            for name, value in buffers.items()
        }
        save_file(tensors, path, metadata={"headsplat.lam": load_lam(path)[0].config.to_json()})
    return path


def test_the_copy_of_flame_in_a_checkpoint_is_used(tmp_path: Path) -> None:
    path = write_on_flame(tmp_path / "flame.safetensors", with_head=True)
    betas = np.random.default_rng(0).normal(size=20).astype(np.float32)
    avatar = reconstruct(make_frame(1), path, betas=betas)
    head = flame_from_arrays(flame_arrays())
    points = head.with_shape(betas).vertices
    assert avatar.joints == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert avatar.expressions[:2] == ("expr0", "expr1") and len(avatar.expressions) == 100
    assert np.abs(avatar.gaussians.means - points).max() <= TINY.max_offset + 1e-6
    assert "non-commercial" in avatar.info["licence"]
    with pytest.raises(HeadsplatError, match="at most 300"):
        reconstruct(make_frame(1), path, betas=np.zeros(301))


def test_flame_missing_or_of_another_edition_is_refused(tmp_path: Path) -> None:
    bare = write_on_flame(tmp_path / "bare.safetensors", with_head=False)
    with pytest.raises(HeadsplatError, match="--flame"):
        reconstruct(make_frame(1), bare)
    head = flame_from_arrays(flame_arrays())
    assert len(reconstruct(make_frame(1), bare, flame=head)) == 42
    full = write_on_flame(tmp_path / "full.safetensors", with_head=True)
    other = replace(head, template=head.template + np.float32(1e-3))
    with pytest.raises(HeadsplatError, match="edition"):
        reconstruct(make_frame(1), full, flame=other)


def test_damaged_flame_buffers_are_refused(tmp_path: Path) -> None:
    path = write_on_flame(tmp_path / "full.safetensors", with_head=True)
    text = load_lam(path)[0].config.to_json()
    for key, change in {"v_template_up": 0.01, "parents": 1}.items():
        tensors = load_file(path)
        tensors[f"renderer.flame_model.{key}"] += change
        save_file(tensors, tmp_path / "bad.safetensors", metadata={"headsplat.lam": text})
        with pytest.raises(HeadsplatError, match=key):
            load_lam(tmp_path / "bad.safetensors")


def test_head_square_keeps_world_points_in_place() -> None:
    frame = make_frame(4, size=96)
    cut = head_square(frame)
    assert cut.image.shape[0] == cut.image.shape[1] == cut.camera.width == cut.alpha.shape[0]
    points = load_free_head().template[::500]
    before, after = frame.camera.project(points), cut.camera.project(points)
    shift = (before - after)[:, :2]
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-3)
    x, y = np.round(shift[0]).astype(int)
    row, column = 20, 25
    inside = 0 <= row + y < 96 and 0 <= column + x < 96
    assert inside and (cut.image[row, column] == frame.image[row + y, column + x]).all()


def test_area_resize_keeps_the_mean_and_constants() -> None:
    image = np.random.default_rng(0).random((37, 37, 3)).astype(np.float32)
    small = resize_area(image, 10)
    np.testing.assert_allclose(small.mean((0, 1)), image.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(resize_area(np.full((31, 31), 0.3, np.float32), 7), 0.3, atol=1e-6)
    whole = resize_area(image[:36, :36], 12)
    np.testing.assert_allclose(whole, image[:36, :36].reshape(12, 3, 12, 3, 3).mean((1, 3)), atol=1e-6)


def test_preparation_cuts_around_the_person_and_refuses_an_empty_matte() -> None:
    image = np.zeros((60, 60, 3), np.float32)
    alpha = np.zeros((60, 60), np.float32)
    alpha[20:40, 25:35] = 1
    rgb, mask = prepare_image(image, alpha, 20)
    assert mask.sum() == pytest.approx(200) and (rgb[mask == 0] == 1).all()
    with pytest.raises(HeadsplatError, match="nobody"):
        prepare_image(image, 0 * alpha, 20)


def test_points_with_features_must_be_those_of_the_head(tmp_path: Path) -> None:
    count = len(load_free_head())
    right = write(replace(TINY, point_features=count), tmp_path / "right.safetensors")
    assert len(reconstruct(make_frame(1), right)) == count
    wrong = write(replace(TINY, point_features=77), tmp_path / "wrong.safetensors")
    with pytest.raises(HeadsplatError, match="77 points"):
        reconstruct(make_frame(1), wrong)


def test_the_common_entry_knows_lam(checkpoint: Path) -> None:
    frame = make_frame(1)
    avatar = headsplat.reconstruct(frame, "lam", weights=checkpoint)
    assert len(avatar) == len(load_free_head())
    assert avatar.info["head"]["model"] == "free" and np.isfinite(avatar.info["source_psnr"])
    with pytest.raises(HeadsplatError, match="--weights"):
        headsplat.reconstruct(frame, "lam")


def test_an_avatar_on_flame_says_so(tmp_path: Path) -> None:
    path = write_on_flame(tmp_path / "flame.safetensors", with_head=True)
    np.savez(tmp_path / "canonical_flame_param.npz", shape=np.full(300, 0.1, np.float32))
    avatar = headsplat.reconstruct(make_frame(1), "lam", weights=path, flame_shape=tmp_path)
    assert avatar.info["head"] == {"model": "flame", "shape": [0.1] * 300}
    assert "source_psnr" not in avatar.info


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_the_command_line_makes_and_refuses(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint.parent
    write_image(folder / "me.png", astronaut()[:300, 50:400].astype(np.float32) / 255)
    create = ("create", folder / "me.png", "-o", folder / "me.avatar", "--method", "lam")
    assert run(*create, "--weights", checkpoint, "--restyle", "film", "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["gaussians"] == len(load_avatar(folder / "me.avatar")) == len(load_free_head())
    assert run(*create) == 2
    assert "--weights" in capsys.readouterr().err
    torch.save({}, folder / "model.pt")
    assert run(*create, "--weights", folder / "model.pt") == 2
    assert "pickle" in capsys.readouterr().err

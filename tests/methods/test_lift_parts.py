"""Laws of the parts of lift: splat frames, subdivision, gradients, hair volume, un-posing, shoulders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lift_photo import painted_frame

from headsplat.gaussians import axis_angle_to_quat, quat_multiply, quat_to_matrix
from headsplat.head.free import load_free_head
from headsplat.methods.lift.capsule import capsule_coordinates, grid_axes, rays
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.extend import extend
from headsplat.methods.lift.glasses import find_glasses, lift_glasses
from headsplat.methods.lift.loose import Loose, body_weights, hair_weights, to_rest
from headsplat.methods.lift.numeric import look_up, smoothstep, splat_frames
from headsplat.methods.lift.refine import ssim_gradient, ssim_map
from headsplat.methods.lift.sampling import sample_faces, sub_triangles, tangents
from headsplat.methods.lift.segment import Sight, segment
from headsplat.methods.lift.view import look_at_photo, skinning_matrices
from headsplat.methods.lift.volume import measure_hair


def test_splat_frames_keep_the_covariance() -> None:
    rng = np.random.default_rng(0)
    t1, t2 = rng.normal(size=(2, 50, 3))
    quats, scales, axes = splat_frames(t1, t2, 1e-6, 1e6)
    turned = quat_to_matrix(quats)
    assert np.allclose(turned, axes, atol=1e-9)
    covariance = np.einsum("nij,nj,nkj->nik", turned, scales**2, turned)
    assert np.allclose(
        covariance, np.einsum("ni,nj->nij", t1, t1) + np.einsum("ni,nj->nij", t2, t2), atol=1e-6
    )


@pytest.mark.parametrize("level", [0, 1, 3])
def test_sub_triangles_average_to_the_centre(level: int) -> None:
    parts = sub_triangles(level)
    assert parts.shape == (4**level, 3)
    assert np.allclose(parts.sum(1), 1) and (parts > 0).all()
    assert np.allclose(parts.mean(0), 1 / 3)


def test_sampling_follows_the_wanted_area() -> None:
    model = load_free_head()
    v, chosen = model.template.astype(np.float64), model.faces_of("head")
    counts = [len(sample_faces(v, model.faces, chosen, area, 0, 4)[0]) for area in (2e-6, 2e-5, 2e-4)]
    assert counts[0] > 4 * counts[1] > 16 * counts[2] > 0
    face, barycentric, split = sample_faces(v, model.faces, chosen, 2e-6, 0, 4)
    assert np.isin(face, chosen).all() and np.allclose(barycentric.sum(1), 1) and (split >= 1).all()


def test_tangents_shrink_with_the_split() -> None:
    corners = np.random.default_rng(1).normal(size=(4, 3, 3))
    whole, half = tangents(corners, np.ones(4)), tangents(corners, np.full(4, 2.0))
    assert np.allclose(whole[0], 2 * half[0]) and np.allclose(whole[1], 2 * half[1])
    scatter = sum(
        np.einsum("ni,nj->nij", c, c) for c in np.moveaxis(corners - corners.mean(1, keepdims=True), 1, 0)
    )
    spanned = np.einsum("ni,nj->nij", whole[0], whole[0]) + np.einsum("ni,nj->nij", whole[1], whole[1])
    assert np.allclose(spanned, 0.28 * scatter)


def test_look_up_hits_pixel_centres() -> None:
    picture = np.random.default_rng(2).random((7, 9, 3)).astype(np.float32)
    y, x = np.mgrid[:7, :9]
    at = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], -1)
    assert np.allclose(look_up(picture, at).reshape(7, 9, 3), picture, atol=1e-6)
    assert np.allclose(look_up(picture, np.array([[1.0, 0.5]])), picture[0, :2].mean(0), atol=1e-6)


def test_smoothstep_rises_and_falls() -> None:
    x = np.linspace(-1, 2, 31)
    assert np.allclose(smoothstep(x, 0.0, 1.0) + smoothstep(x, 1.0, 0.0), 1)


def test_ssim_gradient_is_the_slope_of_ssim() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 17, 13, 3))
    weight = rng.random((17, 13))
    slope = ssim_gradient(x, y, weight)
    direction = rng.normal(size=x.shape)
    h = 1e-5
    up = (weight[..., None] * ssim_map(x + h * direction, y)).sum()
    down = (weight[..., None] * ssim_map(x - h * direction, y)).sum()
    assert np.isclose((slope * direction).sum(), (up - down) / (2 * h), rtol=1e-5)
    assert np.allclose(ssim_map(x, x), 1)


def test_capsule_coordinates_undo_rays() -> None:
    phi, arc = np.meshgrid(*grid_axes())
    foot, direction = rays(phi, arc)
    back_phi, back_arc, radius = capsule_coordinates(foot + 0.11 * direction)
    assert np.allclose(back_phi, phi) and np.allclose(back_arc, arc) and np.allclose(radius, 0.11)


def test_hair_volume_lies_on_the_cap_that_was_painted() -> None:
    frame = painted_frame(hair=True)
    view = look_at_photo(frame, load_free_head())
    hair = measure_hair([Sight(view, segment(view))])
    assert not hair.cropped and not hair.bald
    phi, arc = grid_axes()
    top = arc < 0.12
    assert abs(np.median((hair.radius - hair.skull)[top][:, abs(phi) > 1.8]) - 0.012) < 0.007
    assert hair.presence[top][:, abs(phi) > 2].min() > 0.8
    face = (arc > 0.16) & (arc < 0.22)
    assert hair.presence[face][:, abs(phi) < 0.5].max() < 0.2
    bald = look_at_photo(painted_frame(hair=False), load_free_head())
    assert measure_hair([Sight(bald, segment(bald))]).bald


def test_unposing_undoes_skinning() -> None:
    rng = np.random.default_rng(4)
    model = load_free_head()
    rotations = rng.normal(0, 0.3, (len(model.joint_names), 3))
    skin = skinning_matrices(model.joint_template.astype(float), model.parents, rotations, np.eye(4))[:3]
    n = 40
    rest, height = rng.normal(0, 0.1, (n, 3)), rng.uniform(-0.8, 0.4, n)
    hairy = (np.arange(n) % 2 == 0)[:, None]
    weights = np.where(hairy, hair_weights(height, abs(rest[:, 0])), body_weights(height))
    assert np.allclose(weights.sum(1), 1) and (weights >= -1e-9).all()
    blended = np.einsum("nk,kij->nij", weights, skin)
    posed = np.einsum("nij,nj->ni", blended[:, :3, :3], rest) + blended[:, :3, 3]
    ones, none = np.ones(n), np.zeros((n, 3))
    loose = Loose(posed, none, none, ones, none, ones, weights, ones, ones)
    assert np.allclose(to_rest(loose, skin).means, rest, atol=1e-9)


def test_hair_hangs_from_the_head_and_lies_on_the_shoulders() -> None:
    height = np.array([0.5, 0.02, -0.2, -0.2, -0.8])
    weights = hair_weights(height, np.array([0.15, 0.05, 0.05, 0.2, 0.0]))
    assert np.allclose(weights[:2, 2], 1)
    assert 0.1 < weights[2, 2] < 0.5
    assert np.allclose(weights[3], body_weights(height)[3])
    assert np.allclose(weights[4], [1, 0, 0])


def test_expression_frames_follow_the_triangles() -> None:
    """At weight 1 a Gaussian's long axis is the deformed triangle's image of its long axis at rest."""
    from headsplat.methods.lift import lift_5k, reconstruct

    frame = painted_frame(hair=False)
    avatar = reconstruct(frame, lift_5k(refine=0))
    e = avatar.expressions.index("jawOpen")
    frames = avatar.expression_frames
    assert frames is not None
    rows = slice(frames.starts[e], frames.starts[e + 1])
    index = frames.index[rows]
    turned = quat_multiply(
        axis_angle_to_quat(frames.values[rows, :3].astype(np.float64)), avatar.gaussians.quats[index]
    )
    before, after = quat_to_matrix(avatar.gaussians.quats[index]), quat_to_matrix(turned)
    chin = avatar.gaussians.means[index, 1] < -0.04
    # The chin turns about the jaw's hinge, along x: its normals keep their x and tip downwards.
    tip = np.arccos(np.clip((before[chin, :, 2] * after[chin, :, 2]).sum(1), -1, 1))
    assert 0.1 < np.median(tip) < 0.6
    assert np.median(abs(after[chin, 0, 2] - before[chin, 0, 2])) < 0.1


def test_shoulders_go_on_below_a_cut() -> None:
    frame = painted_frame(hair=True)
    valid = frame.valid.copy()
    valid[205:] = False
    cut = replace(frame, valid=valid, alpha=frame.alpha * valid)
    view = look_at_photo(cut, load_free_head())
    longer, segments = extend(view, segment(view))
    assert longer.frame.valid[235, 128]
    assert longer.frame.alpha[235, 90:166].min() > 0.9
    assert (segments.clothes[235, 90:166] > 0.8).mean() > 0.9
    shirt = longer.frame.foreground[235, 90:166].mean(0)
    assert np.abs(shirt - frame.foreground[198, 70:80].mean(0)).max() < 0.12
    assert np.array_equal(longer.frame.foreground[:150], cut.foreground[:150])


def test_glasses_are_found_and_stand_before_the_face() -> None:
    import cv2

    frame = painted_frame(hair=True)
    view = look_at_photo(frame, load_free_head())
    assert find_glasses(view, segment(view)) is None
    picture = frame.foreground.copy()
    for points in (range(468, 473), range(473, 478)):
        x, y = frame.landmarks[list(points)].mean(0)
        cv2.ellipse(picture, (round(x), round(y) + 2), (17, 13), 0, 0, 360, (0.08, 0.08, 0.10), 2)
    right, left = frame.landmarks[468], frame.landmarks[473]
    ends = [(round(right[0]) + 16, round(right[1])), (round(left[0]) - 16, round(left[1]))]
    cv2.line(picture, *ends, (0.08, 0.08, 0.10), 3)
    view = look_at_photo(replace(frame, image=picture, foreground=picture), load_free_head())
    segments = segment(view)
    mask = find_glasses(view, segments)
    assert mask is not None
    assert (mask > 0.5)[picture.max(-1) < 0.12].mean() > 0.5
    glasses = lift_glasses(view, mask, LiftConfig())
    seen = glasses.seen > 0
    pixels = frame.camera.project(glasses.means[seen])
    on_face = view.depth[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    assert (pixels[:, 2] < on_face).mean() > 0.95
    assert (glasses.weights == [0, 0, 1]).all(), "rigid with the head"
    assert glasses.means[~seen, 2].min() < 0.03, "temples reach back to the ears"

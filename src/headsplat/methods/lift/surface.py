"""Gaussians on the skin, eyes and mouth, coloured from the photo, its mirror image, or by filling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.spatial import KDTree

from headsplat.head.model import HeadModel
from headsplat.methods.lift import eyes
from headsplat.methods.lift.capsule import capsule_coordinates
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.numeric import disk, inside, look_up, nearest_index, smoothstep
from headsplat.methods.lift.outline import EAR_ROWS
from headsplat.methods.lift.sampling import sample_faces
from headsplat.methods.lift.segment import Segments, Sight
from headsplat.methods.lift.shading import Shading, learn_shading
from headsplat.methods.lift.view import INNER_LIPS, LEFT_EYE, RIGHT_EYE, View, grow
from headsplat.methods.lift.volume import HairVolume

NECK_TOP = -0.057
"""Template height under which neck and torso skin is sampled coarsely."""
BUST_TOP = (-0.095, -0.077)
"""Template heights between which the neck of the mesh hands over to the lifted clothes."""
FIRST = 2.0
"""How much more the main photo counts where several show the skin: its light is the avatar's."""


@dataclass(frozen=True)
class Surface:
    """N Gaussians that ride on triangles.

    Attributes:
        face: (N,) int32 triangle.
        barycentric: (N, 3).
        split: (N,) how many parts a triangle's edge was cut into.
        colours: (N, 3).
        opacities: (N,).
        seen: (N,) 0..1.
        trust: (N,) 0..1, how freely refinement may recolour; low at grazing angles.
        lock: (N,) 0..1, lids and the insides of eyes and lips, which must not learn the photo's pixels.
        near_eye: (N,) 0..1, skin around the eyes.
        blink: (N,) 0..1, moved by a blink.
        fringe: (N,) 0..1, skin beside hair that lies before it.
    """

    face: np.ndarray
    barycentric: np.ndarray
    split: np.ndarray
    colours: np.ndarray
    opacities: np.ndarray
    seen: np.ndarray
    trust: np.ndarray
    lock: np.ndarray
    near_eye: np.ndarray
    blink: np.ndarray
    fringe: np.ndarray


def diffuse(
    laplacian: sp.csr_matrix,
    weight: np.ndarray,
    values: np.ndarray,
    smooth: float,
    prior: np.ndarray,
    trust: np.ndarray | float,
) -> np.ndarray:
    """Fill per-vertex values (V, k): keep those with weight, spread them, drift to `prior` far away."""
    trust = np.broadcast_to(trust, weight.shape)
    system = (smooth * laplacian + sp.diags(weight + trust)).tocsc()
    return spl.splu(system).solve(weight[:, None] * values + trust[:, None] * prior)


def to_vertices(
    model: HeadModel, face: np.ndarray, barycentric: np.ndarray, weight: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average weighted samples (N, k) onto vertices: total weight (V,) and mean value (V, k)."""
    corner = model.faces[face].ravel()
    share = (weight[:, None] * barycentric).ravel()
    total = np.bincount(corner, share, len(model.template))
    sums = [
        np.bincount(corner, share * np.repeat(values[:, k], 3), len(model.template))
        for k in range(values.shape[1])
    ]
    return total, np.stack(sums, -1) / np.maximum(total, 1e-9)[:, None]


def lift_surface(sights: Sequence[Sight], hair: HairVolume, config: LiftConfig) -> Surface:
    """Sample the head model and colour every sample from the photos, of which the first is the main one."""
    view, segments = sights[0].view, sights[0].segments
    model, regions = view.model, view.regions
    face, barycentric, split = _sample(view, config)
    corners = model.faces[face]
    at = lambda values: (values[corners] * barycentric).sum(1)  # noqa: E731  per-vertex value at each sample
    skin = regions.skin_faces[face]
    holes = [_holes(sight.view) for sight in sights]
    behind, ear = at(regions.behind), at(regions.ear.astype(float))
    height = at(model.template[:, 1].astype(float))
    cheek = (1 - smoothstep(ear, 0.0, 0.4)) * (height > EAR_ROWS[0]) * (height < EAR_ROWS[1])
    looks, mirrored = (
        [_look(*known, own_corners, barycentric, cheek) for known in zip(sights, holes, strict=True)]
        for own_corners in (corners, view.mirror[corners])
    )
    own, other = _best(looks), _best(mirrored)

    lid = at(regions.lid)
    to_eye = at(KDTree(view.rest[regions.eye_margin]).query(view.rest)[0])
    to_lip = at(KDTree(view.rest[regions.lip_margin]).query(view.rest)[0])
    lids = smoothstep(lid, 0.10, 0.35)
    lid_margin = smoothstep(to_eye, 0.004, 0.0015) * (lid > 0.07)
    parted = smoothstep(view.lip_gap, 0.012, 0.03)
    inner_lip = parted * smoothstep(to_lip, 0.004, 0.0015)

    weights = []
    for look in (own, other):
        w = look.weight * look.skin
        w = w * (1 - np.maximum(lid_margin, 0.85 * smoothstep(lids, 0.3, 0.8))) * (1 - inner_lip)
        weights.append(w * (1 - look.hole) * skin)
    w_own, w_other = weights
    # The other cheek stands in a different light.
    shading = learn_shading(view, segments)
    relit = _relit(view, shading, face, barycentric, own, other, np.minimum(w_own, w_other))
    other = replace(other, colours=np.clip(other.colours * relit, 0, 1))
    w_other = w_other * (1 - np.clip(w_own, 0, 1))
    lock = np.max([look.hole for look in looks], 0) * skin

    # Unseen skin: what was seen, freed from shading, spread over the mesh and shaded again.
    near_eye = smoothstep(to_eye, 0.022, 0.012) * (behind < 0)
    bright = lambda c: c.mean(-1) / segments.skin_colour.mean()  # noqa: E731
    donors = []
    for look, w in ((own, w_own), (other, w_other)):
        odd = (near_eye > 0.3) & ((bright(look.colours) < 0.72) | (bright(look.colours) > 1.5))
        donors.append(w * (1 - smoothstep(lids, 0.03, 0.12)) * smoothstep(to_eye, 0.003, 0.006) * ~odd)
    fill = _fill(view, segments, hair, shading, face, barycentric, own, other, donors)
    # Lids are surrounded by shadow and make-up; half of their tone comes from the cheeks.
    even = segments.skin_colour * (at(shading.at_vertices) / shading.at_skin)[:, None]
    fill = fill + 0.55 * (lids * skin)[:, None] * (even - fill)
    total = np.clip(w_own + w_other, 0, 1)[:, None]
    mixed = own.colours * w_own[:, None] + other.colours * w_other[:, None]
    mixed = mixed / np.maximum(w_own + w_other, 1e-6)[:, None]
    grain = np.random.default_rng(config.seed).normal(0, 0.010, (len(face), 1))
    colours = mixed * total + (fill + grain) * (1 - total)

    part = model.face_part[face]
    colours = eyes.paint(view, segments, face, barycentric, part, colours, fill)

    # Skin under hair takes the hair's colour, so that gaps show hair.
    opacities = np.full(len(face), 0.97)
    if not hair.bald:
        phi, arc, _ = capsule_coordinates(view.rest)
        covered = at(hair.at(hair.presence, phi, arc))
        under = 0.9 * _stubble(view, segments) if hair.cropped else 0.72 * hair_median(view, segments)
        dark = smoothstep(covered, 0.35, 0.75) * (1 - smoothstep(w_own, 0.2, 0.6)) * (behind > -0.012)
        if not hair.cropped:  # what a fringe hides lies in its shadow
            dark = np.maximum(dark, smoothstep(own.hair, 0.3, 0.6) * (own.weight > 0) * own.matte)
        dark = dark * skin
        colours = colours * (1 - dark[:, None]) + dark[:, None] * under
        side = at(model.template[:, 0].astype(float))
        for sign, hidden in zip((-1, 1), hair.hidden_ears, strict=True):
            if hidden:
                opacities[skin & (ear > 0.12) & (np.sign(side) == sign)] = 0

    opacities = np.where(skin, opacities * smoothstep(height, *BUST_TOP), opacities)
    glasses = segments.glasses
    behind_frame = np.zeros(len(face)) if glasses is None else np.clip(2 * look_up(glasses, own.pixels), 0, 1)
    # What shines through hair would be learnt as bright or dark spots on the skin beneath and beside it.
    fringe, bare = np.zeros(len(face)), own.inward
    if not hair.cropped:
        reach = disk(max(1, round(0.035 * view.size)))
        near = cv2.GaussianBlur(cv2.dilate(segments.hair.astype(np.float32), reach), (0, 0), 2.0)
        fringe = smoothstep(look_up(near, own.pixels), 0.15, 0.5) * skin
        bare = bare * np.clip(1 - 1.6 * np.maximum(own.hair, own.clothes), 0, 1)
    learns = np.clip((own.facing - 0.25) / 0.35 * bare, 0.04, 1) * (1 - 0.9 * behind_frame)
    keep = opacities > 0.02
    lashes = _lashes(view, segments, config)
    seen = np.clip(own.weight * own.matte, 0, 1) * skin

    def with_lashes(values: np.ndarray, lash: float) -> np.ndarray:
        return np.concatenate([values[keep], np.full(len(lashes[0]), lash)])

    return Surface(
        face=np.concatenate([face[keep], lashes[0]]).astype(np.int32),
        barycentric=np.concatenate([barycentric[keep], lashes[1]]),
        split=np.concatenate([split[keep], lashes[2]]),
        colours=np.concatenate([colours[keep], lashes[3]]).clip(0, 1),
        opacities=np.concatenate([opacities[keep], lashes[4]]),
        seen=with_lashes(seen, 0.0),
        trust=with_lashes(learns, 1.0),
        lock=with_lashes(np.maximum(np.maximum(lid_margin, smoothstep(lids, 0.2, 0.6)), lock) * skin, 1.0),
        near_eye=with_lashes(near_eye * skin, 0.0),
        blink=with_lashes(smoothstep(lids, 0.005, 0.05) * skin, 0.0),
        fringe=with_lashes(fringe, 0.0),
    )


def hair_median(view: View, segments: Segments) -> np.ndarray:
    """(3,) median colour of the hair, or of the skin darkened when there is none."""
    sure = (segments.hair > 0.7) & (view.frame.alpha > 0.9) & (view.height > 0.1)
    if sure.sum() < 50:
        return segments.skin_colour * 0.4
    return np.median(view.frame.foreground[sure], 0)


def _sample(view: View, config: LiftConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    model, regions = view.model, view.regions
    v, faces, area = model.template.astype(np.float64), model.faces, config.face_area
    head, body = regions.faces(model, "head"), regions.faces(model, "body")
    height, behind = v[faces][..., 1].mean(1), regions.behind[faces].mean(1)
    neck = head & (height < NECK_TOP)
    torso = body & (v[faces][..., 1].max(1) > BUST_TOP[0])
    fine = 1 if area > 3e-6 else 2
    plan = (
        (head & (behind < 0.012) & ~neck, area, 0, 3),
        (head & (behind >= 0.012) & ~neck, area * 4, 0, 3),
        (neck | torso, area * 5, 0, 3),
        (regions.faces(model, "mouth_cavity", "eye_socket"), area * 6, 0, 1),
        (regions.faces(model, "teeth_upper", "teeth_lower"), area * 1.5, 1, 2),
        (regions.faces(model, "tongue"), area * 3, 0, 1),
        (regions.faces(model, "left_eye", "right_eye"), area * 0.6, 0, fine),
    )
    parts = [sample_faces(v, faces, np.flatnonzero(mask), size, low, high) for mask, size, low, high in plan]
    face, barycentric, split = (np.concatenate(column) for column in zip(*parts, strict=True))
    return face, barycentric, split


@dataclass(frozen=True)
class _Look:
    """What a photo says at the projections of N samples: pixels (N, 3), colours (N, 3), the others (N,).

    `inward` is 0 where a sample of the cheek meets pixels beyond the face oval: those of an ear.
    """

    pixels: np.ndarray
    colours: np.ndarray
    facing: np.ndarray
    weight: np.ndarray
    matte: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    clothes: np.ndarray
    hole: np.ndarray
    inward: np.ndarray
    sharpness: float


def _look(
    sight: Sight, holes: np.ndarray, corners: np.ndarray, barycentric: np.ndarray, cheek: np.ndarray
) -> _Look:
    view, segments = sight.view, sight.segments
    pixels = (view.pixels[corners] * barycentric[..., None]).sum(1)
    facing = (view.facing[corners] * barycentric).sum(1)
    row, column = nearest_index(pixels, *view.shape)
    visible = inside(pixels, *view.shape) & (pixels[:, 2] < view.depth[row, column] + 0.003)
    visible &= view.frame.valid[row, column] & ~_depth_edges(view.depth)[row, column]
    inner = cv2.erode(view.frame.alpha, np.ones((5, 5)))
    matte = smoothstep(look_up(inner, pixels), 0.6, 0.95)
    hair, clothes = look_up(segments.hair, pixels), look_up(segments.clothes, pixels)
    oval = cv2.GaussianBlur(grow(view.oval, -2).astype(np.float32), (0, 0), 1.5)
    inward = 1 - cheek * (1 - look_up(oval, pixels))
    skin = matte * inward * np.clip(1 - 1.6 * hair, 0, 1) * np.clip(1 - 1.6 * clothes, 0, 1)
    if segments.glasses is not None:
        skin = skin * np.clip(1 - 2 * look_up(segments.glasses, pixels), 0, 1)
    weight = visible * np.clip((facing - 0.30) / 0.30, 0, 1)
    hole = np.clip(1.3 * look_up(holes, pixels) * (weight > 0), 0, 1)
    colours = look_up(view.frame.foreground, pixels)
    sharpness = float(view.size * max(view.frame.confidence, 0.1))
    return _Look(pixels, colours, facing, weight, matte, skin, hair, clothes, hole, inward, sharpness)


def _best(looks: list[_Look]) -> _Look:
    """One look out of several: at each sample mostly the photo that shows it most squarely and largest.

    The blend is steep, because a mean of photos that are a pixel out of register is a blur; but it is smooth,
    because the photos' tones differ a little. Pixels are those of the first.
    """
    first = looks[0]
    if len(looks) == 1:
        return first
    worth = np.stack([
        look.weight * look.skin * (1 - look.hole) * (look.sharpness * np.clip(look.facing, 0.05, 1)) ** 4
        for look in looks
    ])  # fmt: skip
    worth[0] *= FIRST
    share = worth / np.maximum(worth.sum(0), 1e-12)
    share[0] = np.where(worth.sum(0) > 0, share[0], 1.0)
    mix = {
        name: np.einsum("kn,kn...->n...", share, np.stack([getattr(look, name) for look in looks]))
        for name in ("colours", "weight", "matte", "skin", "hair", "clothes", "hole", "inward")
    }
    facing = np.max([np.where(look.weight > 0, look.facing, first.facing) for look in looks], 0)
    return replace(first, **mix, facing=facing)


def _depth_edges(depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: near where one part of the head hides another, colours belong to either."""
    filled = np.where(np.isfinite(depth), depth, depth[np.isfinite(depth)].max()).astype(np.float32)
    jump = filled - cv2.erode(filled, np.ones((5, 5))) > 0.012
    return (cv2.dilate(jump.astype(np.uint8), np.ones((3, 3))) > 0) & np.isfinite(depth)


def _holes(view: View) -> np.ndarray:
    """(H, W) 0..1, the eyes' and parted lips' insides: no skin may take its colour from there."""
    eye = view.polygon(RIGHT_EYE) | view.polygon(LEFT_EYE)
    mask = grow(eye, 2)
    if view.lip_gap > 0.012:
        mask = np.maximum(mask, grow(view.polygon(INNER_LIPS), 1))
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)


def _relit(
    view: View,
    shading: Shading,
    face: np.ndarray,
    barycentric: np.ndarray,
    own: _Look,
    other: _Look,
    both: np.ndarray,
) -> np.ndarray:
    """(N, 3) factors that bring the mirrored colours into the light of this side.

    Where the photo shows both sides (weights `both`) their ratio is known; it goes on smoothly over the mesh,
    and far from there by the shading.
    """
    model, at = view.model, shading.at_vertices
    # In the middle both are the same place and tell nothing.
    aside = abs((model.template[model.faces[face], 0] * barycentric).sum(1))
    both = both * smoothstep(aside, 0.008, 0.025)
    ratio = np.log((own.colours + 0.02) / (other.colours + 0.02))
    total, mean = to_vertices(model, face, barycentric, both * (abs(ratio).max(1) < 1.5), ratio)
    expected = np.log(np.maximum(at, 0.1) / np.maximum(at[view.mirror], 0.1))[:, None]
    total = np.minimum(total, 1) * (total > 0.1)
    known = expected + diffuse(view.regions.laplacian, total, mean - expected, 1.0, np.zeros_like(mean), 2e-3)
    return np.exp((np.clip(known, -1.2, 1.2)[model.faces[face]] * barycentric[..., None]).sum(1))


def _fill(
    view: View,
    segments: Segments,
    hair: HairVolume,
    shading: Shading,
    face: np.ndarray,
    barycentric: np.ndarray,
    own: _Look,
    other: _Look,
    donors: list[np.ndarray],
) -> np.ndarray:
    """(N, 3) colours for samples that nothing shows."""
    model, regions = view.model, view.regions
    w = donors[0] + donors[1]
    c = (own.colours * donors[0][:, None] + other.colours * donors[1][:, None]) / np.maximum(w, 1e-6)[:, None]
    total, mean = to_vertices(model, face, barycentric, w, c)
    total = np.minimum(total, 3) * (total > 0.1)
    shade = shading.at_vertices[:, None]
    tone = segments.skin_colour / shading.at_skin
    prior, trust = np.tile(tone, (len(mean), 1)), np.full(len(mean), 1e-4)
    if hair.bald:
        stubble = _stubble(view, segments)
        prior = np.where(regions.scalp[:, None], stubble / shading.at_skin, prior)
        trust = np.where(regions.scalp, 8e-3, trust)
        neighbours = sp.diags(regions.laplacian.diagonal()) - regions.laplacian
        degree = np.maximum(regions.laplacian.diagonal(), 1)[:, None]
        for _ in range(6):
            prior = 0.5 * prior + 0.5 * (neighbours @ prior) / degree
    filled = diffuse(regions.laplacian, total, mean / shade, 0.01, prior, trust) * shade
    return (filled[model.faces[face]] * barycentric[..., None]).sum(1)


def _stubble(view: View, segments: Segments) -> np.ndarray:
    """(3,) colour of a cropped or bald scalp away from its highlights."""
    frame = view.frame
    on_scalp = (view.per_pixel(view.regions.behind, -1.0) > 0) & (view.height > 0.99) & (frame.alpha > 0.95)
    on_scalp &= view.per_pixel(view.regions.ear.astype(float), 0.0) < 0.01
    colour = (
        np.percentile(frame.foreground[on_scalp], 25, axis=0) if on_scalp.sum() > 30 else segments.skin_colour
    )
    hairy = (segments.hair > 0.6) & (frame.alpha > 0.95) & (view.height > 0.9)
    if hairy.sum() > max(100, 0.2 * on_scalp.sum()):
        colour = np.percentile(frame.foreground[hairy], 35, axis=0)
    return colour


def _lashes(view: View, segments: Segments, config: LiftConfig) -> tuple[np.ndarray, ...]:
    """Face, barycentric, split, colour, opacity of thin dark lashes; the lower ones are fainter."""
    model = view.model
    chosen = np.flatnonzero(view.regions.faces(model, "lashes"))
    face, barycentric, split = sample_faces(
        model.template.astype(np.float64), model.faces, chosen, config.face_area * 1.5, 0, 2
    )
    eye_level = model.joint_template[model.joint_names.index("left_eye"), 1]
    upper = model.template[model.faces[face]][..., 1].mean(1) > eye_level
    colour = np.tile(np.clip(segments.skin_colour * 0.16, 0.02, 0.2), (len(face), 1))
    return face, barycentric, split, colour, np.where(upper, 0.35, 0.12)

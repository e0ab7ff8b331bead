"""Sheets of lifted pixels: hair, clothes and chest in front, and clothes behind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from headsplat.methods.lift.capsule import capsule_coordinates
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.loose import Loose, body_weights, hair_weights, join, pick
from headsplat.methods.lift.numeric import disk, look_up, nearest_true, smoothstep
from headsplat.methods.lift.segment import Segments, Sight
from headsplat.methods.lift.surface import BUST_TOP
from headsplat.methods.lift.view import View
from headsplat.methods.lift.volume import HairVolume
from headsplat.raster.mesh import rasterize_mesh

HEAD_MIDDLE, TORSO_MIDDLE = np.array([0, 0.033, -0.0125]), np.array([0, -0.177, -0.030])
BUST_MIDDLE, BUST_AXES = np.array([0.0, -0.02]), np.array([0.285, 0.225])
"""The bust ends evenly on a rounded box seen from the front (x, y), or before that within the frame."""
STEEPEST = 2.0
"""Largest slope of a sheet, metres of depth per metre across."""


@dataclass(frozen=True)
class _Field:
    """Pictures at the resolution of the lifted cells, g x g."""

    x: np.ndarray
    y: np.ndarray
    alpha: np.ndarray
    hair: np.ndarray
    clothes: np.ndarray
    height: np.ndarray
    valid: np.ndarray
    mesh: np.ndarray
    torso: np.ndarray
    on_head: np.ndarray
    turning: np.ndarray
    capsule: np.ndarray
    distance: np.ndarray
    middle: np.ndarray
    front: np.ndarray
    back: np.ndarray


def lift_sheets(view: View, segments: Segments, hair: HairVolume, config: LiftConfig) -> Loose:
    """Lift what the mesh does not carry, front and back; in the photo's pose."""
    field = _measure(view, segments, hair, config)
    colours = _rim_colours(view, field)
    front = _front(view, segments, hair, field, colours, config)
    back = _back(view, segments, field, config)
    return join([front, back])


def lift_hair_of(sight: Sight, hair: HairVolume, open_: np.ndarray, config: LiftConfig) -> Loose:
    """Lift the hair that a further photo shows where the photos before it show none; in its pose.

    Args:
        sight: the photo.
        hair: the common volume.
        open_: (R, C) 0..1 over the hair's surface, what this photo is to say.
        config: settings.
    """
    view, segments = sight.view, sight.segments
    field = _measure(view, segments, hair, config)
    front = _front(view, segments, hair, field, _rim_colours(view, field), config)
    head = view.skin[view.model.joint_names.index("head")]
    phi, arc, _ = capsule_coordinates((front.means - head[:3, 3]) @ head[:3, :3])
    share = smoothstep(hair.at(open_.astype(np.float32), phi, arc), 0.5, 0.85)
    hairy = smoothstep(look_up(segments.hair, view.frame.camera.project(front.means)), 0.4, 0.7)
    front = replace(front, opacities=front.opacities * share * hairy)
    return pick(front, front.opacities > 0.05)


def _measure(view: View, segments: Segments, hair: HairVolume, config: LiftConfig) -> _Field:
    frame, camera, model = view.frame, view.frame.camera, view.model
    step = config.pixel_step * view.shape[1] / 512
    centres = np.arange(step / 2, camera.width, step, dtype=np.float32)
    x, y = np.meshgrid(centres, centres)
    cells = len(centres)

    def down(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)

    def pick(image: np.ndarray) -> np.ndarray:
        return image[y.astype(int), x.astype(int)].astype(np.float64)

    hairy = np.where(view.height > 0.15, 0, segments.hair) if hair.cropped else segments.hair
    template_y = view.per_pixel(model.template[:, 1].astype(np.float64), 1.0)
    on_mesh = view.face >= 0
    torso = on_mesh & (template_y < BUST_TOP[1] + 0.008)
    solid = cv2.erode(on_mesh.astype(np.uint8), np.ones((3, 3))) > 0

    points, faces = hair.mesh()
    faces = faces[hair.presence.ravel()[faces].max(1) > 0.1]
    projected = view.head_camera.project(points)
    capsule, _, _ = rasterize_mesh(projected.astype(np.float32), faces, camera.width, camera.height)

    # Thickness of the head model along each pixel's ray: draw it turned inside out.
    far = 3 * float(view.pixels[:, 2].mean())
    behind = view.pixels.copy()
    behind[:, 2] = far - behind[:, 2]
    back, _, _ = rasterize_mesh(
        behind.astype(np.float32), model.faces[view.regions.skin_faces], camera.width, camera.height
    )
    back = np.where(np.isfinite(back), far - back, -1.0)

    filled = ((frame.alpha > 0.5) | ~frame.valid).astype(np.uint8)
    pad = 40
    distance = cv2.distanceTransform(
        cv2.copyMakeBorder(filled, pad, pad, pad, pad, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5
    )[pad:-pad, pad:-pad]

    head_depth = _depth_of(view, HEAD_MIDDLE, "head")
    torso_depth = _depth_of(view, TORSO_MIDDLE, "root")
    height = down(view.height)
    middle = torso_depth + (head_depth - torso_depth) * smoothstep(height, -0.75, 0.0)
    field = _Field(
        x=x, y=y, alpha=down(frame.alpha * frame.valid), hair=down(hairy), clothes=down(segments.clothes),
        height=height, valid=down(cv2.erode(frame.valid.astype(np.uint8), np.ones((5, 5)))) > 0.6,
        mesh=pick(view.depth), torso=pick(torso) > 0.5,
        on_head=(down(solid.astype(np.float32)) > 0.5) & (pick(torso) < 0.5),
        turning=(pick(view.per_pixel(view.facing, 1.0)) < 0.75) & (height < 0.75),
        capsule=pick(capsule), distance=down(distance), middle=middle, front=middle, back=pick(back),
    )  # fmt: skip
    return _rounded(view, _with_front(field, camera.K[0, 0], hair))


def _depth_of(view: View, point: np.ndarray, joint: str) -> float:
    """Camera depth of a rest-space point that is rigid with a joint."""
    T = view.frame.camera.viewmat @ view.skin[view.model.joint_names.index(joint)]
    return float(T[2, :3] @ point + T[2, 3])


def _with_front(field: _Field, focal: float, hair: HairVolume) -> _Field:
    """Add the front's depth: hair lies on its volume, clothes on a pillow bent towards the torso."""
    step = float(field.x[0, 1] - field.x[0, 0])
    radius = 0.085
    across = np.minimum(field.distance * field.middle / focal, radius)
    pillow = field.middle - np.sqrt(np.maximum(radius**2 - (radius - across) ** 2, 0))
    seen = np.isfinite(field.mesh)
    target, weight = np.zeros_like(pillow), np.zeros_like(pillow)
    head = seen & field.on_head
    target, weight = np.where(head, field.mesh - 0.005, target), np.where(head, 4.0, weight)
    torso = seen & field.torso
    # The model's bust is open below, and its back ends before its chest does.
    own_back = field.back > np.where(torso, field.middle + 0.035, 0)
    chest, torso_back = _downwards(field.mesh, torso), _downwards(field.back, torso & own_back)
    torso = np.isfinite(chest)
    target, weight = np.where(torso, chest - 0.004, target), np.where(torso, 0.25, weight)
    active = (field.alpha > 0.03) & (field.height < 0.35)
    body = pillow + _membrane(active, np.where(weight > 0, target - pillow, 0), weight, field.distance)
    behind = 2 * field.middle - pillow
    backmost = np.where(np.isfinite(torso_back), torso_back, field.back)
    known = np.isfinite(torso_back) | own_back
    back = behind + _membrane(
        active, np.where(known, backmost + 0.006 - behind, 0), np.where(known, 1.0, 0), field.distance
    )

    # Hair: on its surface; beyond the outline at the depth of the nearest place on it.
    inner = cv2.erode(np.isfinite(field.capsule).astype(np.uint8), np.ones((3, 3))) > 0
    lying = np.where(np.isfinite(field.capsule), field.capsule, field.middle)
    if inner.any():
        row, column = nearest_true(inner)
        nearest = field.capsule[row, column]
        away = np.hypot(row - np.arange(len(row))[:, None], column - np.arange(len(row))[None])
        soft = cv2.GaussianBlur(nearest.astype(np.float32), (0, 0), 6 / step)
        lying = np.where(inner, field.capsule, np.where(away > 3, soft, nearest))
    low = smoothstep(field.height, -0.12, -0.3)
    on_body = np.minimum(lying, np.where(low > 0, body - 0.006, np.inf))
    lying = np.where(low > 0, low * np.where(active, on_body, lying) + (1 - low) * lying, lying)
    lying = np.where(seen & field.on_head, np.minimum(lying, field.mesh - 0.003), lying)
    share = smoothstep(field.hair, 0.25, 0.5) if not hair.cropped else np.zeros_like(body)
    share = np.where(field.height > 0.35, 1.0, share)
    if hair.cropped:
        lying = np.where(field.height > 0.35, np.where(seen, field.mesh - 0.002, lying), lying)
    front = share * lying + (1 - share) * body
    return _Field(**{**field.__dict__, "front": front, "back": back})


def _downwards(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Depth (g, g) where `known`, its lowest value in each column going on below it, inf elsewhere."""
    rows = np.arange(len(depth))[:, None]
    last = np.where(known.any(0), len(depth) - 1 - np.argmax(known[::-1], 0), len(depth))
    below = depth[np.minimum(last, len(depth) - 1), np.arange(len(last))]
    return np.where(rows > last, below, np.where(known, depth, np.inf))


def _rounded(view: View, field: _Field) -> _Field:
    """Let front and back meet at the bust's edge, so that it ends as a solid and not as two sheets."""
    world = view.frame.camera.unproject(
        np.stack([field.x, field.y], -1).reshape(-1, 2).astype(np.float64), field.middle.ravel()
    )
    reach = _bust_reach(view, world).reshape(field.middle.shape)
    share = np.sqrt(np.clip(1 - np.clip((reach - 0.66) / 0.31, 0, 1) ** 2, 0, 1))
    share = np.where(field.height < -0.12, share, 1.0)
    front = field.middle + (field.front - field.middle) * share
    back = field.middle + (field.back - field.middle) * share
    return _Field(**{**field.__dict__, "front": front, "back": back})


def _membrane(active: np.ndarray, target: np.ndarray, weight: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Smooth correction field (g, g): near `target` by weight, zero along the outline, harmonic between."""
    index = np.full(active.shape, -1)
    index[active] = np.arange(active.sum())
    pairs = []
    for a, b in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
        both = (a >= 0) & (b >= 0)
        pairs.append(np.stack([a[both], b[both]]))
    i, j = np.concatenate(pairs, 1)
    n = int(active.sum())
    out = np.zeros(active.shape)
    if n == 0:
        return out
    graph = sp.coo_matrix((np.ones(len(i)), (i, j)), (n, n)).tocsr()
    graph = graph + graph.T
    w = weight[active]
    w = np.where((distance[active] < 2.5) & (w == 0), 1.0, w)
    system = (8.0 * (sp.diags(np.asarray(graph.sum(1))[:, 0]) - graph) + sp.diags(w + 0.004)).tocsr()
    start = target[active] * (w > 0)
    solution, _ = spl.cg(
        system, w * target[active], x0=start, rtol=1e-3, maxiter=200, M=sp.diags(1 / system.diagonal())
    )
    out[active] = solution
    return out


def _rim_colours(view: View, field: _Field) -> np.ndarray:
    """Colours (g, g, 3): the outermost pixels take theirs from further in, where the matte is sure."""
    gy, gx = np.gradient(cv2.GaussianBlur(field.distance, (0, 0), 1.5))
    length = np.hypot(gx, gy) + 1e-6
    hairy = field.hair > 0.4
    reach = np.where(hairy, 7, 5)
    inwards = np.clip(reach - field.distance, 0, reach) * (field.height > -0.2)
    at = np.stack([field.x + gx / length * inwards, field.y + gy / length * inwards], -1)
    return look_up(view.frame.foreground, at.reshape(-1, 2)).reshape(*field.x.shape, 3)


def _bust_edge(view: View, points: np.ndarray) -> np.ndarray:
    """(N,) 1 inside the bust's outline, fading to 0 at its edge."""
    return smoothstep(_bust_reach(view, points), 1.02, 0.98)


def _bust_reach(view: View, points: np.ndarray) -> np.ndarray:
    """(N,) distance from the bust's middle in units of its outline: 1 on the edge."""
    camera = view.frame.camera
    low = np.array([[0.0, camera.height], [camera.width, camera.height]])  # the frame's lower corners
    corners = camera.unproject(low, np.full(2, _depth_of(view, TORSO_MIDDLE, "root")))[:, :2] - BUST_MIDDLE
    # Cut off by the frame it would be open at the side: it closes a little before.
    right, left = np.clip(0.99 * corners[:, 0] * [-1, 1], 0.12, BUST_AXES[0])
    down = np.clip(-0.99 * corners[:, 1].mean(), 0.12, BUST_AXES[1])
    d = points[:, :2] - BUST_MIDDLE
    d = np.stack([d[:, 0] / np.where(d[:, 0] < 0, right, left), d[:, 1] / down], -1)
    square = d * d
    squarish = (square * square * square).sum(1) ** (1 / 6)
    return np.where(d[:, 1] < 0, squarish, abs(d[:, 0]))


def _front(
    view: View, segments: Segments, hair: HairVolume, field: _Field, colours: np.ndarray, config: LiftConfig
) -> Loose:
    camera = view.frame.camera
    step = config.pixel_step * view.shape[1] / 512
    # On the head's own skin only hair and clothes are lifted; elsewhere whatever the matte holds.
    worn = smoothstep(field.clothes * smoothstep(field.height, 0.05, -0.08), 0.3, 0.75)
    cover = np.maximum(
        smoothstep(field.hair, 0.45, 0.85), worn
    )  # the hairline's mixed pixels stay on the skin
    # Single strands where the cheek turns away would lie on it as dark flecks.
    whole = cv2.morphologyEx(
        cover.astype(np.float32), cv2.MORPH_OPEN, disk(max(1, round(0.03 * view.size / step)))
    )
    cover = np.where(field.turning, np.minimum(cover, whole), cover)
    alpha = np.where(field.on_head, np.minimum(cover, field.alpha), field.alpha)
    # A rim of bare skin beside the head's outline would stand off it like a fin.
    rim = smoothstep(field.height, -0.12, -0.04) * (1 - smoothstep(field.hair + field.clothes, 0.2, 0.5))
    alpha = alpha * (1 - rim)
    lift = (alpha > 0.08) & field.valid
    # Clothes have little detail: every other cell, larger.
    plain = (field.height < -0.12) & (field.hair < 0.2)
    lift &= ~plain | (((field.x // step + field.y // step) % 2) < 1)
    larger = np.where(plain[lift], 1.35, 1.0)[:, None]
    z = field.front
    slope_x = np.gradient(z, axis=1) / step
    slope_y = np.gradient(z, axis=0) / step
    steep = np.hypot(slope_x, slope_y) * camera.K[0, 0] / z
    torn = smoothstep(steep, 2.5, 4.5) * smoothstep(field.distance, 4, 7)
    torn = torn * (np.isfinite(field.mesh) | np.isfinite(field.capsule))  # nothing else would fill the tear
    limit = STEEPEST * z / camera.K[0, 0]
    slope_x, slope_y = np.clip(slope_x, -limit, limit), np.clip(slope_y, -limit, limit)
    means, t1, t2 = _cells(view, field, z, slope_x, slope_y, lift, step * 0.5)
    hairy = (field.hair > 0.35) | ((field.height > -0.02) & (field.clothes < 0.5))
    height = field.height[lift]
    weights = np.where(hairy[lift][:, None], hair_weights(height, abs(means[:, 0])), body_weights(height))
    edge = np.where((height < -0.15) | ((height < 0.05) & ~hairy[lift]), _bust_edge(view, means), 1.0)
    steep = np.hypot(slope_x, slope_y)[lift] * camera.K[0, 0] / z[lift]
    # Where hair turns away from the camera, strands on its volume look better than stretched pixels.
    # Beside the cheek such pixels would hang before it as a dark comb.
    at_cheek = cv2.dilate(field.on_head.astype(np.uint8), disk(3))[lift] * (height > 0) * (height < 0.75)
    turned = np.where(at_cheek > 0, smoothstep(steep, 0.6, 1.3), 0.6 * smoothstep(steep, 1.2, 2.2))
    turned = turned * hairy[lift] * (0.0 if hair.cropped else 1.0)
    count = int(lift.sum())
    return Loose(
        means=means,
        t1=1.15 * larger * t1,
        t2=1.15 * larger * t2,
        thickness=np.full(count, 0.5),
        colours=colours[lift].astype(np.float64),
        opacities=np.clip(alpha[lift], 0, 1) * 0.97 * (1 - 0.97 * torn[lift]) * (1 - turned) * edge,
        weights=weights,
        seen=np.clip(alpha[lift], 0, 1),
        trust=1 - 0.85 * smoothstep(steep, 1.0, 2.0),
    )


def _cells(
    view: View,
    field: _Field,
    z: np.ndarray,
    slope_x: np.ndarray,
    slope_y: np.ndarray,
    mask: np.ndarray,
    reach: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World centres and tangents (N, 3) of the cells in `mask`, `reach` pixels wide each way."""
    camera = view.frame.camera
    at = np.stack([field.x[mask], field.y[mask]], -1).astype(np.float64)
    depth = z[mask]
    centre = camera.unproject(at, depth)
    right = camera.unproject(at + np.array([reach, 0]), depth + slope_x[mask] * reach)
    below = camera.unproject(at + np.array([0, reach]), depth + slope_y[mask] * reach)
    return centre, right - centre, below - centre


def _back(view: View, segments: Segments, field: _Field, config: LiftConfig) -> Loose:
    """Clothes behind: the front mirrored about the middle of the body, outside the model's own back."""
    step = config.pixel_step * view.shape[1] / 512
    body = (field.height < 0.05) & ~((field.hair > 0.5) & (field.height > -0.15))
    mask = body & (field.alpha > 0.3) & field.valid
    z = cv2.GaussianBlur(np.maximum(field.back, field.front + 0.004).astype(np.float32), (0, 0), 1.5)
    z = z.astype(np.float64)
    slope_x, slope_y = np.gradient(z, axis=1) / step, np.gradient(z, axis=0) / step
    limit = STEEPEST * z / view.frame.camera.K[0, 0]
    means, t1, t2 = _cells(view, field, z, np.clip(slope_x, -limit, limit), np.clip(slope_y, -limit, limit),
                           mask, step * 0.75)  # fmt: skip
    height = field.height[mask]
    at = np.stack([field.x[mask], field.y[mask]], -1)
    colours = _clothes_colours(view, segments, at, height)
    # Behind, clothes reach up the neck as far as they do in front.
    throat = field.on_head & (field.height < -0.04) & (field.height > -0.13) & (field.alpha > 0.5)
    high = throat.any() and (field.clothes[throat] > 0.5).mean() > 0.5
    collar = -0.04 if high else -0.15
    shaded = 1 - 0.12 * smoothstep((z - field.middle)[mask], 0.0, 0.06)
    count = int(mask.sum())
    return Loose(
        means=means,
        t1=1.2 * t1,
        t2=1.2 * t2,
        thickness=np.full(count, 0.5),
        colours=shaded[:, None] * colours,
        opacities=field.alpha[mask]
        * 0.95
        * np.where(height < 0.05, _bust_edge(view, means), 1.0)
        * smoothstep(height, collar + 0.08, collar - 0.05),
        weights=body_weights(height),
        seen=np.zeros(count),
        trust=np.full(count, 0.1),
    )


def _clothes_colours(view: View, segments: Segments, at: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(N, 3) blurred colours of clothes only, so that no chin, hair or chest shows on the back."""
    frame = view.frame
    sure = (segments.clothes > 0.6) & (frame.alpha > 0.9) & frame.valid
    soft = cv2.GaussianBlur(frame.foreground, (0, 0), 1.2)
    own = look_up(soft, at)
    if sure.sum() < 200:
        return own.astype(np.float64)
    # Around a neckline some chest passes for clothes: what is nearer to skin than to their tone is skin.
    far = [np.linalg.norm(soft - tone, axis=-1) for tone in (np.median(soft[sure], 0), segments.skin_colour)]
    sure = (sure & (far[0] < far[1])).astype(np.float32)
    sigma = 0.10 * view.size
    weight = cv2.GaussianBlur(sure, (0, 0), sigma) + 1e-4
    blurred = cv2.GaussianBlur(frame.foreground * sure[..., None], (0, 0), sigma) / weight[..., None]
    median = np.median(frame.foreground[sure > 0], 0)
    known = smoothstep(look_up(weight, at), 0.005, 0.08)[:, None]
    spread = look_up(blurred, at) * known + median * (1 - known)
    keep = smoothstep(look_up(cv2.GaussianBlur(sure, (0, 0), 2.0), at), 0.5, 0.95)[:, None] * 0.6
    return own * keep + spread * (1 - keep)

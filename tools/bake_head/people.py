"""Random people from Anny, aligned, and their principal components, symmetric and antisymmetric apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.head.arkit import swap_sides

from .anny_body import PARTS, AnnyBust, phenotype_weights

_HEAD_REGIONS = ("cheek", "chin", "ear", "eye", "forehead", "head", "mouth", "neck", "nose")
_LEFT_EYE, _RIGHT_EYE = 4, 5


@dataclass(frozen=True)
class People:
    """The statistical head on MakeHuman's own mesh: V vertices, J joints, S components.

    Attributes:
        template: (V, 3) exactly mirror-symmetric mean.
        joints: (J, 3).
        basis: (S, V, 3) metres per sigma.
        joint_basis: (S, J, 3).
        symmetric: (S,) bool; the others are antisymmetric.
        expressions: (52, V, 3) scaled to the template.
        face: indices of the front-face vertices used for the alignment.
        report: figures for the model card.
    """

    template: np.ndarray
    joints: np.ndarray
    basis: np.ndarray
    joint_basis: np.ndarray
    symmetric: np.ndarray
    expressions: np.ndarray
    face: np.ndarray
    report: dict[str, float]


def sample_phenotypes(rng: np.random.Generator, labels: list[str], count: int) -> np.ndarray:
    """(N, 11) phenotypes: four fifths adults, uniform over age; a mixture of the three ancestries."""
    values = np.empty((count, len(labels)), np.float32)
    for column, label in enumerate(labels):
        if label == "age":
            adult = rng.random(count) < 0.8
            values[:, column] = np.where(adult, rng.uniform(0.25, 1, count), rng.uniform(-0.05, 0.35, count))
        elif label in ("african", "asian", "caucasian"):
            values[:, column] = rng.gamma(0.6, 1, count)
        elif label in ("cupsize", "firmness"):
            values[:, column] = 0.5
        elif label == "gender":
            values[:, column] = rng.beta(0.5, 0.5, count)
        else:
            values[:, column] = rng.beta(1.5, 1.5, count)
    return values


def sample_local_changes(rng: np.random.Generator, names: tuple[str, ...], count: int) -> np.ndarray:
    """(N, 2 L) non-negative weights of the head's local changes: each active in 35 %, sides mostly equal."""
    change = np.zeros((count, len(names)), np.float32)
    for column, name in enumerate(names):
        paired = name[:2] in ("l-", "r-")
        region = name[2:].split("-")[0] if paired else name.split("-")[0]
        region_ok = any(region.startswith(r) for r in _HEAD_REGIONS)
        moves_all = name.startswith(("head-trans", "neck-trans-out"))
        if not region_ok or moves_all or (name[:2] == "r-" and "l-" + name[2:] in names):
            continue
        active = rng.random(count) < 0.35
        amount = np.clip(rng.normal(0, 0.4, count), -1, 1) * active
        if name.endswith("trans-out") and not paired:
            amount *= 0.3
        change[:, column] = amount
        if name[:2] == "l-":
            uneven = np.clip(amount + rng.normal(0, 0.25, count) * active, -1, 1)
            change[:, names.index("r-" + name[2:])] = np.where(rng.random(count) < 0.7, amount, uneven)
    weights = np.empty((count, 2 * len(names)), np.float32)
    weights[:, 0::2], weights[:, 1::2] = np.maximum(change, 0), np.maximum(-change, 0)
    return weights


def align(shapes: np.ndarray, reference: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move (N, V, 3) `shapes` onto (V, 3) `reference` by the similarity that fits the vertices `where` best.

    Returns:
        The aligned shapes and their (N,) scales (Umeyama 1991).
    """
    part, target = shapes[:, where], reference[where]
    centre, target_centre = part.mean(1, keepdims=True), target.mean(0)
    part, target = part - centre, target - target_centre
    u, s, vt = np.linalg.svd(np.einsum("nij,ik->njk", part, target))
    sign = np.linalg.det(u @ vt)
    u[:, :, 2] *= sign[:, None]
    s[:, 2] *= sign
    scale = s.sum(1) / (part**2).sum((1, 2))
    return scale[:, None, None] * ((shapes - centre) @ (u @ vt)) + target_centre, scale


def build_people(bust: AnnyBust, count: int = 1600, components: int = 100, seed: int = 0) -> People:
    """Sample `count` people, align them on the front face, and keep the strongest `components`."""
    rng = np.random.default_rng(seed)
    labels = list(bust.model.phenotype_labels)
    n_vertices = len(bust.template)
    mirror = np.concatenate([bust.mirror, n_vertices + np.array([0, 1, 2, 3, _RIGHT_EYE, _LEFT_EYE])])
    flip = np.array([-1, 1, 1], np.float32)

    phenotype_w = phenotype_weights(bust.model, sample_phenotypes(rng, labels, count))
    local_w = sample_local_changes(rng, bust.local_names, count)
    neutral_rows = np.concatenate([bust.template, bust.bones])

    def people(phenotype: np.ndarray, local: np.ndarray) -> np.ndarray:
        return neutral_rows + np.tensordot(phenotype, bust.phenotype, 1) + np.tensordot(local, bust.local, 1)

    shapes = people(phenotype_w, local_w)
    middle = phenotype_weights(bust.model, np.full((1, len(labels)), 0.5, np.float32))
    average = people(middle, np.zeros((1, local_w.shape[1]), np.float32))

    head = np.unique(bust.quads[bust.quad_part == PARTS.index("head")])
    joint = average[0, n_vertices:]
    face = head[(average[0, head, 2] > joint[2, 2] + 0.02) & (average[0, head, 1] > joint[3, 1] - 0.06)]
    reference = average[0]
    for _ in range(3):
        aligned, _scales = align(shapes, reference, face)
        mean = aligned.mean(0)
        reference = 0.5 * (mean + mean[mirror] * flip)
    deltas = aligned - reference

    weight = np.ones(n_vertices + 6, np.float32)
    weight[n_vertices:] = 1e-3
    weight[face] = 2
    inner = np.isin(bust.quad_part, [PARTS.index(p) for p in PARTS[2:] if not p.endswith("eye")])
    weight[np.unique(bust.quads[inner])] = 0.2
    only_body = np.setdiff1d(np.unique(bust.quads[bust.quad_part == PARTS.index("body")]), head)
    weight[only_body] = 0.35
    root_weight = np.sqrt(weight)[:, None]

    mirrored = deltas[:, mirror] * flip
    halves = [(0.5 * (deltas + mirrored), True), (0.5 * (deltas - mirrored), False)]
    vectors, variances, symmetric = [], [], []
    for half, is_symmetric in halves:
        rows, singular, _ = np.linalg.svd((half * root_weight).reshape(count, -1), full_matrices=False)
        keep = min(components, len(singular))
        # Left singular vectors make the components, so that they keep the exact symmetry of their half.
        vectors.append(np.tensordot(rows[:, :keep].T, half, 1) / np.sqrt(count))
        variances.append(singular**2 / count)
        symmetric.append(np.full(keep, is_symmetric))
    total = sum(v.sum() for v in variances)
    kept = np.concatenate([v[: len(s)] for v, s in zip(variances, symmetric, strict=True)])
    order = np.argsort(-kept)[:components]
    basis = np.concatenate(vectors)[order].astype(np.float32)
    is_symmetric = np.concatenate(symmetric)[order]

    every = np.sort(np.concatenate(variances))[::-1].cumsum() / total
    report = {f"components_for_{q}": int((every < q).sum() + 1) for q in (0.9, 0.95, 0.98, 0.99, 0.995)}
    pick = rng.permutation(count)[:200]
    fresh, _ = align(people(phenotype_w[pick], local_w[(pick + 7) % count]), reference, face)
    flat = (fresh - reference) * root_weight
    for n in (20, 40, 60, 80, 100):
        columns = (basis[:n] * root_weight).reshape(n, -1)
        codes = np.linalg.lstsq(columns.T, flat.reshape(len(pick), -1).T, rcond=None)[0].T
        error = np.linalg.norm(fresh - reference - np.tensordot(codes, basis[:n], 1), axis=2)[:, face] * 1e3
        report[f"recombined_face_error_mm_{n}"] = float(error.mean())
    report["antisymmetric_components"] = int((~is_symmetric).sum())

    _, scale = align(average, reference, face)
    expressions = symmetric_expressions(bust.expressions * scale[0], bust.expression_names, bust.mirror)
    return People(
        template=reference[:n_vertices].astype(np.float32),
        joints=reference[n_vertices:].astype(np.float32),
        basis=basis[:, :n_vertices],
        joint_basis=basis[:, n_vertices:],
        symmetric=is_symmetric,
        expressions=expressions.astype(np.float32),
        face=face,
        report=report,
    )


def symmetric_expressions(deltas: np.ndarray, names: tuple[str, ...], mirror: np.ndarray) -> np.ndarray:
    """Average each (V, 3) expression with its partner's mirror image: the mirror law becomes exact."""
    out = np.empty_like(deltas)
    for row, name in enumerate(names):
        partner = swap_sides(name)
        image = deltas[names.index(partner)][mirror] * np.array([-1, 1, 1], deltas.dtype)
        out[row] = 0.5 * (deltas[row] + image)
    return out

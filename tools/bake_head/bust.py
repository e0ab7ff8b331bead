"""The bust while it is being put together: a symmetric triangle mesh with its shape and expression bases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .anny_body import JOINTS, PARTS, AnnyBust
from .flatten import boundary_loops
from .people import People, symmetric_expressions

_FLIP = np.array([-1, 1, 1], np.float32)


@dataclass(frozen=True)
class Bust:
    """V vertices, F triangles, S components, 52 expressions, J joints; metres.

    Attributes:
        template: (V, 3).
        basis: (S, V, 3).
        expressions: (52, V, 3).
        skin_weights: (V, J).
        faces: (F, 3).
        face_part: (F,) index into `PARTS`.
        mirror: (V,).
    """

    template: np.ndarray
    basis: np.ndarray
    expressions: np.ndarray
    skin_weights: np.ndarray
    faces: np.ndarray
    face_part: np.ndarray
    mirror: np.ndarray

    def part_faces(self, *parts: str) -> np.ndarray:
        """Indices of the faces of the named parts."""
        return np.flatnonzero(np.isin(self.face_part, [PARTS.index(p) for p in parts]))

    def part_vertices(self, *parts: str) -> np.ndarray:
        """Indices of the vertices of the named parts."""
        return np.unique(self.faces[self.part_faces(*parts)])

    def without(self, *parts: str) -> Bust:
        """The bust without the named parts and without the vertices that only they used."""
        return self.without_faces(self.part_faces(*parts))

    def without_faces(self, rows: np.ndarray) -> Bust:
        """The bust without some faces and without the vertices that only they used."""
        keep = np.setdiff1d(np.arange(len(self.faces)), rows)
        used = np.unique(self.faces[keep])
        compact = np.full(len(self.template), -1)
        compact[used] = np.arange(len(used))
        return Bust(
            self.template[used],
            self.basis[:, used],
            self.expressions[:, used],
            self.skin_weights[used],
            compact[self.faces[keep]],
            self.face_part[keep],
            compact[self.mirror[used]],
        )

    def plus(
        self,
        part: str,
        template: np.ndarray,
        basis: np.ndarray,
        expressions: np.ndarray,
        skin_weights: np.ndarray,
        faces: np.ndarray,
        mirror: np.ndarray,
    ) -> Bust:
        """The bust with a further piece of `part`; `faces` count within the piece, `mirror` in the result."""
        return Bust(
            np.concatenate([self.template, template.astype(np.float32)]),
            np.concatenate([self.basis, basis.astype(np.float32)], axis=1),
            np.concatenate([self.expressions, expressions.astype(np.float32)], axis=1),
            np.concatenate([self.skin_weights, skin_weights.astype(np.float32)]),
            np.concatenate([self.faces, faces + len(self.template)]),
            np.concatenate([self.face_part, np.full(len(faces), PARTS.index(part), np.uint8)]),
            np.concatenate([self.mirror, mirror]),
        )

    def moved(self, vertices: np.ndarray, offset: np.ndarray) -> Bust:
        """The bust with the template's `vertices` displaced by `offset`."""
        template = self.template.copy()
        template[vertices] += offset
        return replace(self, template=template)


def start(source: AnnyBust, people: People) -> Bust:
    """The statistical head on MakeHuman's mesh, cut into triangles alike on both sides."""
    template = symmetrised(people.template, source.mirror)
    faces, part = _triangles(source.quads, source.quad_part, template, source.mirror)
    weights = _stiff_parts(source.skin_weights.copy(), source)
    swapped = weights[source.mirror][:, [0, 1, 2, 3, 5, 4]]
    return Bust(
        template, people.basis, people.expressions, 0.5 * (weights + swapped), faces, part, source.mirror
    )


def smooth_rim(bust: Bust, passes: int = 12) -> Bust:
    """Turn the staircase along the cut edge of the bust into a smooth line, in every shape."""
    loops = boundary_loops(bust.faces[bust.part_faces("head", "body")])
    rim = min(loops, key=lambda loop: bust.template[loop, 1].mean())
    operator = np.eye(len(rim))
    once = 0.5 * operator + 0.25 * (np.roll(operator, 1, axis=0) + np.roll(operator, -1, axis=0))
    operator = np.linalg.matrix_power(once, passes)
    template, basis = bust.template.copy(), bust.basis.copy()
    template[rim] = operator @ template[rim]
    basis[:, rim] = np.einsum("ij,sjk->sik", operator, basis[:, rim])
    return replace(bust, template=symmetrised(template, bust.mirror), basis=basis)


def exactly_symmetric(bust: Bust, symmetric: np.ndarray, names: tuple[str, ...]) -> Bust:
    """Make the mirror law of template, basis and expressions exact to the last bit of rounding."""
    sign = np.where(symmetric, 1, -1)[:, None, None].astype(np.float32)
    basis = 0.5 * (bust.basis + bust.basis[:, bust.mirror] * _FLIP * sign)
    expressions = symmetric_expressions(bust.expressions, names, bust.mirror)
    template = symmetrised(bust.template, bust.mirror)
    return replace(bust, template=template, basis=basis, expressions=expressions)


def symmetrised(template: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The average with the mirror image; exact, so that the mirror of a vertex has exactly the negated x."""
    half = 0.5 * (template + template[mirror] * _FLIP)
    left = (half[:, 0] > 0) | ((half[:, 0] == 0) & (np.arange(len(half)) <= mirror))
    half[~left] = half[mirror[~left]] * _FLIP
    half[mirror == np.arange(len(half)), 0] = 0
    return half


def _triangles(
    quads: np.ndarray, part: np.ndarray, template: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Split each quad along its shorter diagonal; a quad and its mirror image get the mirrored diagonal."""
    corner = template[quads].astype(np.float64)
    first = ((corner[:, 0] - corner[:, 2]) ** 2).sum(1) <= ((corner[:, 1] - corner[:, 3]) ** 2).sum(1)
    index_of = {tuple(sorted(quad)): row for row, quad in enumerate(quads.tolist())}
    for row, quad in enumerate(quads.tolist()):
        image = [int(mirror[v]) for v in quad]
        twin = index_of[tuple(sorted(image))]
        if twin > row:
            diagonal = {quad[0], quad[2]} if first[row] else {quad[1], quad[3]}
            pair = {int(mirror[v]) for v in diagonal}
            first[twin] = pair == {quads[twin, 0], quads[twin, 2]}
    a, b, c, d = quads.T
    split = np.where(
        first[:, None, None],
        np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1),
        np.stack([np.stack([b, c, d], 1), np.stack([b, d, a], 1)], 1),
    )
    return split.reshape(-1, 3), np.repeat(part, 2)


def _stiff_parts(weights: np.ndarray, source: AnnyBust) -> np.ndarray:
    """Eyes, teeth and tongue each follow one joint only; lids do not turn with the eyes."""
    weights[:, JOINTS.index("head")] += weights[:, 4] + weights[:, 5]
    weights[:, 4:] = 0
    for part, joint in (
        ("left_eye", "left_eye"),
        ("right_eye", "right_eye"),
        ("teeth_lower", "jaw"),
        ("teeth_upper", "head"),
        ("tongue", "jaw"),
    ):
        rows = np.unique(source.quads[source.quad_part == PARTS.index(part)])
        weights[rows] = np.eye(len(JOINTS), dtype=np.float32)[JOINTS.index(joint)]
    return weights

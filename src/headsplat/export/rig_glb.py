"""A glTF skeleton: joint nodes, a skin, and morph targets, as both mesh exports need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headsplat.export.glb import GlbBuilder


def joint_nodes(
    names: Sequence[str], parents: Sequence[int], rest: np.ndarray, first: int
) -> list[dict[str, Any]]:
    """Nodes of J unrotated joints, to be placed in the document's node list from index `first` on.

    Args:
        names: J names.
        parents: J parent indices, -1 for the root.
        rest: (J, 3) positions at rest, metres.
        first: index that the first node will have.
    """
    nodes = []
    for j, name in enumerate(names):
        offset = rest[j] if parents[j] < 0 else rest[j] - rest[parents[j]]
        node: dict[str, Any] = {"name": name, "translation": [float(v) for v in offset]}
        children = [first + k for k, parent in enumerate(parents) if parent == j]
        if children:
            node["children"] = children
        nodes.append(node)
    return nodes


def skin(builder: GlbBuilder, rest: np.ndarray, first: int) -> dict[str, Any]:
    """The skin of J joints at `rest` (J, 3) whose nodes start at index `first`, the root first."""
    bind = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    bind[:, 3, :3] = -rest  # glTF matrices are stored column by column
    matrices = builder.accessor(bind.reshape(-1, 16), target=None)
    return {
        "joints": list(range(first, first + len(rest))),
        "inverseBindMatrices": matrices,
        "skeleton": first,
    }


def top_four(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest joints of each row of (V, J) weights: (V, 4) uint8 and their (V, 4) float32 weights.

    Rows of the result sum to 1; unused slots point to joint 0 with weight 0.
    """
    padded = np.pad(weights, ((0, 0), (0, max(0, 4 - weights.shape[1]))))
    joints = np.argsort(-padded, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(padded, joints, 1).astype(np.float64)
    strongest /= strongest.sum(1, keepdims=True)
    return np.where(strongest > 0, joints, 0).astype(np.uint8), strongest.astype(np.float32)

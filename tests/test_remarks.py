"""What `create` says about a photo that will disappoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.cli.make import _remarks


def with_look(avatar: Avatar, brightness: float, confidence: float) -> Avatar:
    colors = (avatar.gaussians.features * brightness).astype(np.float32)
    return replace(
        avatar,
        gaussians=replace(avatar.gaussians, features=colors),
        seen=np.ones(len(avatar), np.float32),
        info={"confidence": confidence},
    )


@pytest.mark.parametrize(
    ("brightness", "confidence", "hints"),
    [(1.0, 0.9, []), (0.04, 0.9, ["dark"]), (1.0, 0.1, ["0.10"]), (0.04, 0.1, ["0.10", "dark"])],
)
def test_dark_and_doubtful_photos_are_remarked_on(
    avatar: Avatar, brightness: float, confidence: float, hints: list[str]
) -> None:
    said = _remarks(with_look(avatar, brightness, confidence))
    assert len(said) == len(hints) and all(hint in line for hint, line in zip(hints, said, strict=True))


def test_nothing_seen_is_not_dark(avatar: Avatar) -> None:
    unseen = replace(with_look(avatar, 0.0, 0.9), seen=np.zeros(len(avatar), np.float32))
    assert _remarks(unseen) == []

"""Settings of LAM, and the sizes that it comes in: as released, as in the paper, and for a plain CPU."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from headsplat.nets.vit import VitConfig, vit_l14_registers

FREE_HEAD_POINTS = (6_727, 26_450, 104_920)
"""Points of the bundled head after 0, 1 and 2 subdivisions."""


@dataclass(frozen=True)
class LamConfig:
    """Everything that shapes the network and the way its Gaussians are posed.

    Attributes:
        encoder: the vision transformer.
        taps: blocks of the encoder, counted from 0, whose tokens are fused.
        image_size: side of the source image, pixels; a multiple of the encoder's patch.
        fused_width: channels of an image token after fusion.
        freeze_encoder: leave the encoder as it was loaded.
        width: channels of a point token.
        heads: attention heads.
        layers: attention blocks.
        attention: what a block is. "joint": points and image tokens attend to all of both and both change, as
            released. "cross": points attend to one another, then to the image tokens, as in the paper's text.
            "image": points attend to the image tokens alone, linear in the number of points, for CPUs.
        trunk: neurons of the two hidden layers before the output layers; 0 = one linear layer per output.
        subdivisions: midpoint subdivisions of the head model: 0, 1 or 2.
        teeth: add two rows of teeth to a head model that has none.
        octaves: of the sines and cosines that tell points apart; the last has 2^(octaves - 2) periods a metre
        point_features: number of points that have a learned vector of their own, added to their token: all
            points of the head model, or 0. With it a network fits few people sooner.
        initial_opacity: of every Gaussian before training; faint ones make for a careful, slow start.
        initial_scale: standard deviation of every Gaussian before training, metres.
        max_offset: how far a Gaussian may leave its point along each axis, metres.
        max_scale: largest standard deviation of a Gaussian, metres.
        queries: "points": one token per point. "triplane": learned tokens of three planes; each point takes
            its features from where it projects to (Table 4, Tri.).
        plane_size: side of each of the three planes, tokens.
        painted_tokens: with painted features, how many evenly chosen points carry them at most.
        context: "tokens": points see all image tokens. "painted": they see only the image features found
            where the points of the tracked head project to (Table 4, Paint).
        space: "canonical": all heads are made neutral and facing forwards. "posed": in the pose and with the
            expression of the source, then brought back (Table 4, PE).
        pose_correctives: apply the head model's pose-dependent blendshapes, where it has them.
        joints_follow_expression: let the joints move with the expression, where the head model says how.
        rotate_gaussians: turn Gaussians with the skin instead of moving their centres alone.
        head: the head model that the points and the animation come from: "flame", or the bundled "free" head.
        expressions: number of expressions that change colours (dynamic wrinkles); 0 = colours are constant.
    """

    encoder: VitConfig
    taps: tuple[int, ...]
    image_size: int
    fused_width: int
    width: int
    heads: int
    layers: int
    trunk: int
    subdivisions: int
    head: Literal["flame", "free"] = "flame"
    attention: Literal["joint", "cross", "image"] = "joint"
    freeze_encoder: bool = False
    teeth: bool = False
    octaves: int = 8
    point_features: int = 0
    initial_opacity: float = 0.1
    initial_scale: float = math.exp(-5)
    max_offset: float = 0.1
    max_scale: float = 0.01
    queries: Literal["points", "triplane"] = "points"
    plane_size: int = 32
    painted_tokens: int = 1024
    context: Literal["tokens", "painted"] = "tokens"
    space: Literal["canonical", "posed"] = "canonical"
    pose_correctives: bool = False
    joints_follow_expression: bool = True
    rotate_gaussians: bool = False
    expressions: int = 0

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> LamConfig:
        """The settings written by `to_json`.

        Raises:
            ValueError: not JSON.
            TypeError: unknown or missing settings.
        """
        values = json.loads(text)
        values["encoder"] = VitConfig(**values["encoder"])
        values["taps"] = tuple(values["taps"])
        return LamConfig(**values)


def released_20k() -> LamConfig:
    """LAM-20K as its authors released it: 20,018 Gaussians on FLAME, 558 M parameters."""
    return LamConfig(
        encoder=vit_l14_registers(),
        taps=(4, 11, 17, 23),
        image_size=504,
        fused_width=1024,
        width=1024,
        heads=16,
        layers=10,
        trunk=512,
        subdivisions=1,
    )


def lam_5k() -> LamConfig:
    """The released network with one Gaussian per vertex of FLAME (Table 4, LAM-5K)."""
    return replace(released_20k(), subdivisions=0)


def paper() -> LamConfig:
    """LAM-80K as the paper's text describes it; no weights of it were ever published."""
    return replace(
        released_20k(),
        attention="cross",
        trunk=0,
        subdivisions=2,
        teeth=True,
        freeze_encoder=True,
        pose_correctives=True,
        joints_follow_expression=False,
    )


def small(subdivisions: int = 0) -> LamConfig:
    """A LAM that a CPU can train from nothing on few people: 1.6 M parameters, on the bundled free head.

    One Gaussian per point: 6,727, or 26,450 and 104,920 with one and two subdivisions.
    """
    return LamConfig(
        encoder=VitConfig(width=128, depth=4, heads=4, patch=14, grid=12, registers=4),
        taps=(0, 1, 2, 3),
        image_size=168,
        fused_width=128,
        width=64,
        heads=2,
        layers=2,
        trunk=0,
        subdivisions=subdivisions,
        head="free",
        attention="image",
        octaves=10,
        initial_opacity=0.7,
        initial_scale=0.0067 / 2**subdivisions,
        plane_size=48,
        point_features=FREE_HEAD_POINTS[subdivisions],
        rotate_gaussians=True,
    )


def triplane_queries(config: LamConfig) -> LamConfig:
    """Table 4, Tri.: learned plane tokens instead of point tokens."""
    return replace(config, queries="triplane", point_features=0)


def posed_space(config: LamConfig) -> LamConfig:
    """Table 4, PE: Gaussians in the pose of the source, brought back to neutral before they are driven."""
    return replace(config, space="posed")


def painted_features(config: LamConfig) -> LamConfig:
    """Table 4, Paint: attention to image features at the projected points only."""
    return replace(config, context="painted")

"""Settings of GAGAvatar: as released, as it is meant, and for a plain CPU; the paper's ablations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from headsplat.head.free import load_free_head
from headsplat.nets.styleunet import Noise, StyleUNetConfig
from headsplat.nets.vit import VitConfig, vit_b14

FLAME_POINTS = 5023


@dataclass(frozen=True)
class GagavatarConfig:
    """Everything that shapes the network and its Gaussians.

    The network works in units of its own, `units` to the metre: five, as the released one.

    Attributes:
        encoder: the vision transformer.
        image_size: side of the source picture that the encoder sees, pixels; a multiple of its patch.
        pyramid: channels of the four levels that the encoder's last four blocks become: at 4, 2, 1 and 1/2
            times the grid of patches.
        features: channels of the fused map, at 8 times the grid of patches.
        points: vertices of the head model, one expression Gaussian each.
        point_features: length of the learned vector of each of them.
        lift_width: channels inside the lifting heads.
        point_width: neurons of the expression head's trunk.
        channels: features of a Gaussian; the first three are its colour.
        planes: 2 lifts the picture away from and towards the camera, 1 away only ("one-plane lifting").
        global_feature: what the expression Gaussians know of the picture: the transformer's class token, the
            token of the top left patch (as released), or nothing ("w/o F_id").
        colour_axis: what the lifting heads' sigmoid applies to: the three colour "channels", or all channels
            of the first three "columns" of the map (as released).
        expression_quats: normalise the expression Gaussians' quaternions each to length one ("unit"), or each
            component over all vertices (as released: "vertices").
        renderer: the neural renderer, or None ("w/o neural renderer").
        freeze_encoder: leave the transformer as it was loaded.
        matte: its Gaussians have learned to cover what the person covers, so that pictures can be laid over
            anything. The released ones have not: their pictures hold over black alone.
        head: whose vertices the expression Gaussians ride on.
        units: network units per metre.
        reach: how far an offset may lift a point off its plane, units.
        largest: largest standard deviation of a Gaussian, units.
        octaves: of the code of the source's viewing direction.
    """

    encoder: VitConfig
    image_size: int
    pyramid: tuple[int, int, int, int]
    features: int
    points: int
    point_features: int
    lift_width: int
    point_width: int
    renderer: StyleUNetConfig | None
    channels: int = 32
    planes: Literal[1, 2] = 2
    global_feature: Literal["class", "corner", "none"] = "class"
    colour_axis: Literal["channels", "columns"] = "channels"
    expression_quats: Literal["unit", "vertices"] = "unit"
    freeze_encoder: bool = True
    matte: bool = False
    head: Literal["flame", "free"] = "free"
    units: float = 5.0
    reach: float = 1.0
    largest: float = 0.05
    octaves: int = 4

    @property
    def grid(self) -> int:
        """Points of a lifting plane along one side."""
        return 8 * (self.image_size // self.encoder.patch)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> GagavatarConfig:
        """The settings written by `to_json`.

        Raises:
            ValueError: not JSON, or sizes that do not fit together.
            TypeError: unknown or missing settings.
        """
        values = json.loads(text)
        values["encoder"] = VitConfig(**values["encoder"])
        values["pyramid"] = tuple(values["pyramid"])
        if values["renderer"] is not None:
            renderer = dict(values["renderer"])
            renderer["widths"] = tuple(renderer["widths"])
            values["renderer"] = StyleUNetConfig(**renderer)
        return GagavatarConfig(**values)


def official(noise: Noise = "random") -> GagavatarConfig:
    """The released network with all of its habits: 169.6 M parameters, 180,255 Gaussians on FLAME.

    Args:
        noise: "random" is the release's: its pictures differ from call to call. "buffer" adds the maps stored
            in the checkpoint, "none" nothing.
    """
    return GagavatarConfig(
        encoder=vit_b14(),
        image_size=518,
        pyramid=(256, 512, 1024, 1024),
        features=256,
        points=FLAME_POINTS,
        point_features=256,
        lift_width=128,
        point_width=256,
        renderer=StyleUNetConfig(noise=noise, spare=True),
        global_feature="corner",
        colour_axis="columns",
        expression_quats="vertices",
        head="flame",
    )


def ours(head: Literal["free", "flame"] = "free") -> GagavatarConfig:
    """The method as it is meant, at the released size: class token, RGB per pixel, rotations, no noise."""
    return replace(
        official("none"),
        renderer=StyleUNetConfig(),
        points=FLAME_POINTS if head == "flame" else len(load_free_head()),
        global_feature="class",
        colour_axis="channels",
        expression_quats="unit",
        matte=True,
        head=head,
    )


def small() -> GagavatarConfig:
    """A GAGAvatar that a CPU can train from nothing, with pictures of 256 pixels, on the free head."""
    return GagavatarConfig(
        encoder=VitConfig(width=96, depth=4, heads=3, patch=14, grid=16),
        image_size=224,
        pyramid=(32, 32, 48, 48),
        features=32,
        points=len(load_free_head()),
        point_features=32,
        lift_width=32,
        point_width=64,
        renderer=StyleUNetConfig(
            channels=16, size=256, widths=(8, 12, 24, 32, 48, 48, 48), style=64, mapping=2
        ),
        channels=16,
        freeze_encoder=False,
        matte=True,
    )


def one_plane(config: GagavatarConfig) -> GagavatarConfig:
    """Table 3, one-plane lifting."""
    return replace(config, planes=1)


def without_global_feature(config: GagavatarConfig) -> GagavatarConfig:
    """Table 3, w/o F_id."""
    return replace(config, global_feature="none")


def without_neural_renderer(config: GagavatarConfig) -> GagavatarConfig:
    """Table 3, w/o neural renderer: the splatted colours are the picture."""
    return replace(config, renderer=None)

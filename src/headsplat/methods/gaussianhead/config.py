"""Settings of GaussianHead: the paper's, the released code's, and small ones for a plain CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True)
class GaussianHeadConfig:
    """Everything that shapes the model and its training.

    Lengths are in units of the scene: half of what a picture shows from top to bottom at the head, about a
    quarter of a metre; the tri-plane covers -1..1.

    Attributes:
        iterations: steps of the whole training, one picture each.
        size: pictures are reduced until their longer side has so many pixels; 0 keeps them.
        gaussians: how many to begin with.
        start: where they begin: "random" in a cube (the paper), or "surface": on the fitted head model
            where pictures show it, around its scalp for the hair, and out to the matte for hair and clothes.
        start_cube: half the side of that cube.
        blendshapes: let the head model's blendshapes move the Gaussians; the field learns the rest.
        space: "head": everything moves with the skull, as in the paper. "split": each Gaussian belongs to
            head or torso by the head model's skin weights and moves with them by LBS (section VI).
        field_on: which Gaussians the field moves: "all", or those of the "face": moved by a blendshape.
        layers: linear layers of the deformation field.
        width: their width.
        skip: after how many layers the input is joined on again; 0 = never.
        octaves: frequencies of the positional encoding, 2^0..2^(octaves-1).
        residual: the field gives offsets; False: the attributes themselves (Table IV, direct deform).
        deform_quats: whether the field turns Gaussians (Table IV, without Delta q).
        deform_scales: whether it resizes them (Table IV, without Delta s).
        scale_offset: how a size changes: "log" multiplies; "linear" adds to the size, as released, kept above
            a thousandth.
        zero_start: begin with offsets of exactly zero instead of random ones.
        field_from: iteration at which the field begins to work and learn.
        condition_noise: standard deviation of noise on the expression weights that the field is given.
        appearance: where opacity and colour come from: "triplane", "direct": parameters of each Gaussian
            (Table IV, without tri-plane), or "mlp": a network of the position (Table IV, decoded by MLP).
        resolutions: of the tri-planes; several are joined (Table III, M-res: 64, 128, 256, 512).
        channels: of each plane.
        planes_start: the planes begin at random between a third and five thirds of this. Features are
            products of three: at the published 0.3 they begin near 0.03, and colours come slowly.
        sample_at: sample the planes at "deformed" centres, as published, or at the "canonical" ones.
        derivations: K, doppelgangers of each Gaussian; 0 = none, axis-aligned (Table IV, without derivation).
        global_derivations: the K rotations belong to the scene and not to each Gaussian (Table IV, global).
        derivation_schedule: "fixed", or "growing": K after equation 12.
        derivation_heir: derivations of new Gaussians: "inherit" the parent's, "random", or "identity"
            (Table III: I-init, R-init, Z-init).
        manifold: "sphere": Riemannian Adam on unit quaternions. "euclidean": plain Adam and matrices that are
            rotations only while the quaternion has length one, as released.
        channel_groups: derivation k reads its "own" group of channels, or all read the "last", as released.
        hidden: neurons of the hidden layers of the two decoders.
        activation: between the decoder's layers; "sigmoid" without biases, as released, or "relu" with.
        colour_activation: "relu", or "none": the colour decoder is linear, as released.
        start_opacity: opacity that the decoders begin near; 0 = whatever they give.
        sh_degree: of the colours: 3 has the paper's 16 coefficients; 0 = colours do not depend on the view.
        sh_every: iterations after which the degree in use rises by one.
        vgg: file with the weights of VGG-16 for the perceptual distance; "" = the substitute without.
        pixel: weight of the absolute difference (lambda 1).
        perceptual: weight of the perceptual distance (lambda 2).
        dssim: weight of 1 - SSIM (lambda 3).
        background: behind the person: "white", or a "random" grey per step, which shows what is transparent.
        means_rate: learning rate of centres, falling to `means_rate_end` over `means_decay` iterations.
        means_rate_end: see `means_rate`.
        means_decay: see `means_rate`; 0 = all iterations.
        scales_rate: learning rate of log-sizes.
        quats_rate: learning rate of rotations.
        field_rate: learning rate of the field, falling to `network_rate_end` at the last iteration.
        planes_rate: learning rate of the planes, falling likewise.
        opacity_rate: learning rate of the opacity decoder.
        colour_rate: learning rate of the colour decoder.
        rest_rate: learning rate of what the colour decoder gives for degrees above 0.
        decoders_end: the three rates above fall to this share at the last iteration; 1 = they stay, as
            published. One picture per step pulls all colours its way: the last ones should pull less.
        derivations_rate: learning rate of the derivations.
        derivations_decay: let it fall to zero at the last iteration, as in the paper; released: it stays.
        network_rate_end: see `field_rate`.
        densify_from: iteration of the first densification.
        densify_until: of the last.
        densify_every: iterations between two.
        densify_gradient: mean length of the screen gradient that makes a Gaussian clone or split.
        split_above: longest axis that makes it split instead of clone.
        most_gaussians: densification stops here.
        prune_opacity: fainter ones go.
        prune_scale: larger ones go, after the first opacity reset.
        prune_hidden: at a densification, also drop what no picture since the last one pulled at.
        opacity_reset: iterations between resets of opacities that are parameters ("direct").
        least_seen: Gaussians that paint less than so many pixels of any picture learned from are not given
            to the avatar: what is hidden there has no colour of its own and would show from the side.
        least_confidence: views tracked with less are not learned from.
        hold_out: share of the recording, its end, kept for judging where it sets no test views aside itself.
        judge_size: longer side of the pictures that are judged; 0 keeps them.
        judge_views: at most so many, evenly spread.
        seed: of everything random.
    """

    iterations: int = 80_000
    size: int = 512
    gaussians: int = 10_000
    start: Literal["random", "surface"] = "random"
    start_cube: float = 1.3
    blendshapes: bool = False
    space: Literal["head", "split"] = "head"
    field_on: Literal["all", "face"] = "all"
    layers: int = 8
    width: int = 256
    skip: int = 5
    octaves: int = 10
    residual: bool = True
    deform_quats: bool = True
    deform_scales: bool = True
    scale_offset: Literal["log", "linear"] = "log"
    zero_start: bool = False
    field_from: int = 3000
    condition_noise: float = 0.0
    appearance: Literal["triplane", "direct", "mlp"] = "triplane"
    resolutions: tuple[int, ...] = (64,)
    channels: int = 32
    planes_start: float = 0.3
    sample_at: Literal["deformed", "canonical"] = "deformed"
    derivations: int = 4
    global_derivations: bool = False
    derivation_schedule: Literal["fixed", "growing"] = "fixed"
    derivation_heir: Literal["inherit", "random", "identity"] = "inherit"
    manifold: Literal["sphere", "euclidean"] = "sphere"
    channel_groups: Literal["own", "last"] = "own"
    hidden: int = 64
    activation: Literal["sigmoid", "relu"] = "sigmoid"
    colour_activation: Literal["none", "relu"] = "relu"
    start_opacity: float = 0.0
    sh_degree: int = 3
    sh_every: int = 1000
    vgg: str = ""
    pixel: float = 0.8
    perceptual: float = 0.01
    dssim: float = 0.2
    background: Literal["white", "random"] = "white"
    means_rate: float = 8e-4
    means_rate_end: float = 8e-6
    means_decay: int = 30_000
    scales_rate: float = 5e-3
    quats_rate: float = 1e-3
    field_rate: float = 8e-4
    planes_rate: float = 1e-3
    opacity_rate: float = 1e-4
    colour_rate: float = 1e-3
    rest_rate: float = 5e-5
    decoders_end: float = 1.0
    derivations_rate: float = 1e-3
    derivations_decay: bool = True
    network_rate_end: float = 1.6e-6
    densify_from: int = 3000
    densify_until: int = 15_000
    densify_every: int = 500
    densify_gradient: float = 2e-4
    split_above: float = 0.01
    most_gaussians: int = 200_000
    prune_opacity: float = 2e-4
    prune_scale: float = 0.026
    prune_hidden: bool = False
    opacity_reset: int = 3000
    least_seen: float = 0.0
    least_confidence: float = 0.3
    hold_out: float = 0.1
    judge_size: int = 512
    judge_views: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        groups = self.most_derivations
        if groups and self.channels % groups:
            raise ValueError(f"{groups} derivations do not divide {self.channels} channels")
        if self.derivation_schedule == "growing" and self.channels != 32:
            raise ValueError("equation 12 is for 32 channels")
        if not self.resolutions or min(self.resolutions) < 2:
            raise ValueError("planes need a resolution of at least 2")
        if not 0 <= self.sh_degree <= 3:
            raise ValueError("the degree is 0 to 3")
        if self.blendshapes and self.start != "surface":
            raise ValueError("blendshapes need Gaussians that start on the surface")
        if self.field_on == "face" and not (self.blendshapes and self.residual):
            raise ValueError("the face is known by its blendshapes, and the rest needs attributes of its own")
        if self.layers < 2 or self.width < 1 or self.skip >= self.layers:
            raise ValueError("the field needs two layers and a skip before its last one")
        if not 0 <= self.hold_out < 0.9 or self.iterations < 1 or self.gaussians < 1:
            raise ValueError("it needs iterations, Gaussians and something to learn from")

    @property
    def most_derivations(self) -> int:
        """The largest K that the planes' channels will be divided by."""
        if self.appearance != "triplane":
            return 0
        return 32 if self.derivation_schedule == "growing" else self.derivations

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict that `from_json` reads back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> GaussianHeadConfig:
        """The settings written by `to_json`.

        Raises:
            ValueError: unknown settings, or values of the wrong type.
        """
        kinds = {f.name: type(f.default) for f in fields(GaussianHeadConfig)}
        clean: dict[str, Any] = {}
        for name, value in values.items():
            value = tuple(value) if isinstance(value, list) else value
            value = float(value) if kinds.get(name) is float and type(value) is int else value
            if type(value) is not kinds.get(name):
                raise ValueError(f"{name!r} is no setting, or not of that kind")
            if isinstance(value, tuple) and not all(type(v) is int for v in value):
                raise ValueError(f"{name!r} is not a list of whole numbers")
            clean[name] = value
        return GaussianHeadConfig(**clean)


def paper() -> GaussianHeadConfig:
    """The paper: 512 x 512, 80,000 iterations, 10,000 Gaussians at random, K = 4, 16 SH coefficients."""
    return GaussianHeadConfig()


def released() -> GaussianHeadConfig:
    """The published code where it departs from its paper; see README.md for what was left out and why."""
    return replace(
        paper(),
        channel_groups="last",
        manifold="euclidean",
        derivations_decay=False,
        colour_activation="none",
        scale_offset="linear",
        densify_from=500,
        densify_every=100,
        prune_opacity=0.005,
        prune_scale=0.1,
    )


def small() -> GaussianHeadConfig:
    """A watchable avatar from a clip of 10 to 20 s on two CPU cores in under half an hour."""
    return replace(
        paper(),
        iterations=3_000,
        size=320,
        gaussians=12_000,
        start="surface",
        blendshapes=True,
        space="split",
        layers=4,
        width=64,
        skip=0,
        octaves=6,
        zero_start=True,
        field_from=100,
        sample_at="canonical",
        condition_noise=0.02,
        hidden=32,
        activation="relu",
        start_opacity=0.6,
        sh_degree=0,
        background="random",
        perceptual=0.1,
        means_rate=8e-4,
        means_rate_end=2e-5,
        means_decay=0,
        field_rate=1.5e-3,
        planes_rate=5e-3,
        opacity_rate=2e-3,
        colour_rate=2e-3,
        decoders_end=0.02,
        planes_start=1.0,
        network_rate_end=1e-5,
        densify_from=200,
        densify_until=1_500,
        densify_every=150,
        most_gaussians=30_000,
        prune_opacity=0.01,
        prune_scale=0.1,
        prune_hidden=True,
        least_seen=0.05,
    )

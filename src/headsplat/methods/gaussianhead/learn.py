"""Learn one person's GaussianHead from a tracked recording: step, state, judgement, avatar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headsplat import losses
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.methods.gaussianhead import density
from headsplat.methods.gaussianhead.config import GaussianHeadConfig, paper, released, small
from headsplat.methods.gaussianhead.model import GaussianHead, initial_points, pose
from headsplat.methods.gaussianhead.pictures import Pictures, Sample, spread
from headsplat.methods.gaussianhead.riemannian import RiemannianAdam
from headsplat.methods.gaussianhead.scene import Scene, scene_of, start_of
from headsplat.raster import THREE_DGS, Render, rasterize

PRESETS = {"small": small, "paper": paper, "released": released}
RESET_OPACITY = 0.01
"""What 3DGS resets opacities to."""


class Learner:
    """What the training loop runs: `headsplat.train.loop.Trainable`."""

    def __init__(self, scene: Scene, config: GaussianHeadConfig, device: str = "cpu") -> None:
        """Gaussians at their start, for a scene.

        Raises:
            HeadsplatError: there are no views to learn from, or VGG's weights cannot be read.
        """
        self.scene, self.config, self.device = scene, config, device
        self.train, self.held_out = views_of(scene, config)
        self.pictures = Pictures(scene, config.size, device)
        self.judged = Pictures(scene, config.judge_size, device)
        self.perceptual = losses.perceptual(config.vgg or None)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.order: list[int] = []
        rng = np.random.default_rng(config.seed)
        start = start_of(scene, config, rng)
        points, rotations = initial_points(
            config, torch.from_numpy(start.means), torch.from_numpy(start.scales), self.generator
        )
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.model = GaussianHead(
                config,
                len(scene.dataset.expressions) + 3 * len(scene.bones.told),
                points,
                torch.from_numpy(start.skin_joints),
                torch.from_numpy(start.skin_weights),
                None if start.blend is None else torch.from_numpy(start.blend),
                rotations,
            ).to(device)
        self.noted = density.Density(len(self.model), device)
        self._make_optimizers()

    @property
    def iterations(self) -> int:
        """How many steps make a finished model."""
        return self.config.iterations

    def _make_optimizers(self) -> None:
        model = self.model
        adam: dict[str, list[torch.nn.Parameter]] = {
            name: [model.points[name]] for name in model.points if name != "derivations"
        }
        adam["field"] = list(model.field.parameters())
        if model.appearance is not None:
            decoder = model.appearance.decoder
            adam["opacity"] = list(decoder.opacity.parameters())
            adam["colour"] = [*decoder.colour.parameters(), *decoder.base.parameters()]
            adam["rest"] = list(decoder.rest.parameters()) if decoder.rest is not None else []
            own = {id(p) for p in decoder.parameters()}
            adam["planes"] = [p for p in model.appearance.parameters() if id(p) not in own]
        groups = [{"params": params, "name": name} for name, params in adam.items() if params]
        self.adam = torch.optim.Adam(groups, eps=1e-15)
        derived = [model.points["derivations"]] if "derivations" in model.points else []
        derived += [model.rotations] if model.rotations is not None else []
        self.turning: torch.optim.Optimizer | None = None
        if derived:
            make = RiemannianAdam if self.config.manifold == "sphere" else torch.optim.Adam
            self.turning = make([{"params": derived, "name": "derivations"}])

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.adam] if self.turning is None else [self.adam, self.turning]

    def step(self, iteration: int) -> dict[str, float]:
        """One picture: draw it, compare, follow the gradient; now and then change the Gaussians."""
        config = self.config
        self.model.degree = min(config.sh_degree, iteration // max(config.sh_every, 1))
        self.model.deforming = iteration >= config.field_from or not config.residual
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate(group["name"], iteration)
        sample = self.pictures[self._next_view()]
        grey = float(torch.rand(1, generator=self.generator)) if config.background == "random" else 1.0
        cloud, render = self._draw(sample, grey, noise=config.condition_noise)
        cloud.means.retain_grad()
        loss, parts = self._loss(render, sample, grey)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        densifying = config.densify_from <= iteration <= config.densify_until
        if iteration <= config.densify_until and cloud.means.grad is not None:
            noted = (cloud.means.grad, cloud.means.detach(), cloud.opacities.detach())
            self.noted.note(*noted, sample.camera)
        for optimizer in self._optimizers:
            optimizer.step()
        if densifying and iteration % config.densify_every == 0:
            density.change(self.model, self._optimizers, self.noted, config, iteration, self.generator)
        if "opacity_logits" in self.model.points and iteration and iteration % config.opacity_reset == 0:
            self._reset_opacities(iteration)
        return {"loss": loss.item(), **parts, "gaussians": float(len(self.model))}

    def _next_view(self) -> int:
        if not self.order:
            self.order = torch.randperm(len(self.train), generator=self.generator).tolist()
        return self.train[self.order.pop()]

    def _rate(self, name: str, iteration: int) -> float:
        c, done = self.config, iteration / self.config.iterations
        match name:
            case "means":
                share = min(iteration / (c.means_decay or c.iterations), 1.0)
                return c.means_rate * (c.means_rate_end / c.means_rate) ** share
            case "field" | "planes":
                rate = c.field_rate if name == "field" else c.planes_rate
                return rate * (c.network_rate_end / rate) ** done
            case "derivations":
                return c.derivations_rate * (1 - done if c.derivations_decay else 1.0)
            case "opacity_logits":
                return 0.05  # as in 3DGS, like the next
            case "coefficients":
                return 2.5e-3
            case "opacity" | "colour" | "rest":
                rates = {"opacity": c.opacity_rate, "colour": c.colour_rate, "rest": c.rest_rate}
                return rates[name] * c.decoders_end**done
            case _:
                return {"log_scales": c.scales_rate, "quats": c.quats_rate}[name]

    def _draw(
        self, sample: Sample, grey: float, noise: float = 0.0, depth: bool = False
    ) -> tuple[Gaussians, Render]:
        """The Gaussians of a sample in the world, and their picture over a grey."""
        condition = sample.condition
        if noise:
            drawn = torch.randn(condition.shape, generator=self.generator).to(condition)
            condition = condition + noise * drawn
        cloud = self.world(sample, condition)
        # The blur of 3DGS is in pixels. On a reduced picture it would hide gaps that show at full size.
        rules = replace(THREE_DGS, eps2d=THREE_DGS.eps2d * sample.reduced**2)
        return cloud, rasterize(cloud, sample.camera, background=grey, depth=depth, rules=rules)

    def world(self, sample: Sample, condition: Tensor | None = None) -> Gaussians:
        """The Gaussians in a sample's pose, metres; `condition` other than the sample's own."""
        told = sample.condition if condition is None else condition
        rest = in_metres(self.model(told, sample.weights, sample.eye), self.scene)
        skin = self.model.skin_joints, self.model.skin_weights
        return pose(rest, *skin, sample.transforms, sample.turns)

    def _loss(self, render: Render, sample: Sample, grey: float) -> tuple[Tensor, dict[str, float]]:
        """Equation 8, and its terms for the log."""
        c, target = self.config, sample.over(grey)
        # Nobody knows what was beyond the film's edge.
        image = target + (render.image - target) * sample.valid
        terms = {"pixel": losses.l1(image, target).mean()}
        if c.dssim:
            terms["dssim"] = 1 - losses.ssim(image, target).mean()
        if c.perceptual:
            terms["perceptual"] = self.perceptual.distance(image[None], target[None])[0]
        total = torch.stack([getattr(c, name) * value for name, value in terms.items()]).sum()
        inside = sample.alpha > 0.5
        with torch.no_grad():
            error = (image - target).square()[inside].mean() if inside.any() else terms["pixel"]
            psnr = -10 * torch.log10(error.clamp(min=1e-10))
        return total, {name: value.item() for name, value in terms.items()} | {"psnr": psnr.item()}

    @torch.no_grad()
    def _reset_opacities(self, iteration: int) -> None:
        """As in 3DGS: all faint again, so that what is not needed stays so; decoded opacities need none."""
        if iteration >= self.config.densify_until:
            return
        logits = self.model.points["opacity_logits"]
        logits.clamp_(max=float(torch.tensor(RESET_OPACITY).logit()))
        for moment in ("exp_avg", "exp_avg_sq"):
            self.adam.state[logits][moment].zero_()

    def state(self) -> dict[str, Any]:
        """Parameters, moments, sampler and generator."""
        return {
            "model": self.model.state_dict(),
            "adam": self.adam.state_dict(),
            "turning": None if self.turning is None else self.turning.state_dict(),
            "noted": self.noted.state(),
            "order": self.order,
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Back to what `state` returned, whatever number of Gaussians it had."""
        for name, value in state["model"].items():
            owner, _, last = name.rpartition(".")
            if owner == "points":
                self.model.points[last] = torch.nn.Parameter(value.to(self.device))
            elif name in ("blend", "face", "skin_joints", "skin_weights"):
                setattr(self.model, name, value.to(self.device))
        self.model.load_state_dict(state["model"])
        self._make_optimizers()
        self.adam.load_state_dict(state["adam"])
        if self.turning is not None:
            self.turning.load_state_dict(state["turning"])
        self.noted.load(state["noted"])
        self.order = list(state["order"])
        self.generator.set_state(state["generator"])

    @torch.no_grad()
    def preview(self, iteration: int) -> np.ndarray:
        """A held-out (or learned) view beside its picture, over white."""
        numbers = self.held_out or self.train
        sample = self.pictures[numbers[iteration // 50 % len(numbers)]]
        pair = torch.cat([sample.over(1.0), self.picture(sample).image], 1)
        return pair.clamp(0, 1).cpu().numpy()

    @torch.no_grad()
    def picture(self, sample: Sample, depth: bool = False) -> Render:
        """The model's picture of a sample over white, as an avatar draws it."""
        before = self.model.degree, self.model.deforming
        self.model.degree, self.model.deforming = self.config.sh_degree, True
        try:
            return self._draw(sample, 1.0, depth=depth)[1]
        finally:
            self.model.degree, self.model.deforming = before

    def judge(self) -> dict[str, float]:
        """PSNR (dB), SSIM and mean absolute difference inside the matte of views that were held out."""
        chosen = spread(self.held_out, self.config.judge_views)
        if not chosen:
            return {}
        rows = [measure(self.picture(s).image, s) for s in (self.judged[n] for n in chosen)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def measure(image: Tensor, sample: Sample) -> dict[str, float]:
    """PSNR, SSIM and mean absolute difference of an (H, W, 3) picture over white, inside the matte."""
    target, inside = sample.over(1.0), sample.alpha > 0.5
    image = target + (image.clamp(0, 1) - target) * sample.valid
    error = (image - target)[inside]
    return {
        "psnr": float(-10 * torch.log10(error.square().mean().clamp(min=1e-10))),
        "ssim": float(losses.ssim(image, target)[inside].mean()),
        "l1": float(error.abs().mean()),
    }


def views_of(scene: Scene, config: GaussianHeadConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the views to learn from and of those to judge by.

    Raises:
        HeadsplatError: no view is left to learn from.
    """
    dataset = scene.dataset
    learned = dataset.train or tuple(range(len(dataset)))
    kept_out = dataset.test or dataset.val
    if not kept_out and config.hold_out:
        last = round(len(learned) * (1 - config.hold_out))
        learned, kept_out = learned[:last], learned[last:]
    trusted = tuple(i for i in learned if dataset.views[i].confidence >= config.least_confidence)
    if not trusted:
        raise HeadsplatError(
            f"{dataset.root} has no view tracked with a confidence of {config.least_confidence:g}; "
            "track a clip that shows the face."
        )
    sure = tuple(i for i in kept_out if dataset.views[i].confidence >= config.least_confidence)
    return trusted, sure


def in_metres(gaussians: Gaussians, scene: Scene) -> Gaussians:
    """Gaussians in rest space from units of the scene to metres."""
    centre = torch.as_tensor(scene.centre, device=gaussians.means.device)
    return Gaussians(
        gaussians.means * scene.half + centre,
        gaussians.quats,
        gaussians.scales * scene.half,
        gaussians.opacities,
        gaussians.features,
    )


def trainable(data: tuple[Path, ...], settings: GaussianHeadConfig, device: str) -> Learner:
    """What `headsplat train gaussianhead` trains.

    Raises:
        HeadsplatError: not one recording, or it does not do.
    """
    from headsplat.data.datasets import read_dataset

    if len(data) != 1:
        raise HeadsplatError(
            "GaussianHead learns one person from one recording; give one folder with --data."
        )
    return Learner(scene_of(read_dataset(data[0]), settings), settings, device)


def deliver(learner: Learner, out: Path) -> dict[str, Any]:
    """Write the run's model.avatar and return facts to print."""
    from headsplat.avatar_file import save_avatar
    from headsplat.methods.gaussianhead.create import create_avatar

    path = Path(out) / "model.avatar"
    avatar = create_avatar(learner)
    save_avatar(avatar, path)
    return {"avatar": str(path), "gaussians": len(avatar), "bytes": path.stat().st_size}

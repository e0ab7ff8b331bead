"""Learn LAM from photos and recordings: what the loop steps, the judgement, and what is delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headsplat import losses
from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.methods.lam import config as presets
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.corrections import Corrections
from headsplat.methods.lam.create import avatar_of
from headsplat.methods.lam.model import Lam
from headsplat.methods.lam.people import Person, people_of
from headsplat.methods.lam.rig import Rig
from headsplat.methods.lam.train import (
    Source,
    Target,
    TrainConfig,
    learning_rate,
    optimizer_of,
    predict,
    source_of,
    target_of,
    train_step,
)
from headsplat.methods.lam.weights import load_lam, save_lam
from headsplat.raster import rasterize

MOST_JUDGED = 8
"""Most people that a judgement looks at."""
JUDGED = 24
"""Most frames of one person that a judgement looks at, evenly chosen."""
SHOWN = 8
"""Frames on the contact sheet."""


@dataclass(frozen=True)
class LearnConfig:
    """Everything that shapes a run.

    Attributes:
        model: the network.
        loss: weights of the loss, and the optimiser.
        iterations: steps of the whole training.
        size: side of the pictures to learn from, pixels.
        views: views to learn from of each recording, evenly chosen; 0 for all.
        correct_poses: learn small corrections of the learned frames' tracked poses: a factor on the learning
            rate; 0 = take the tracked poses as they are.
        bfloat16: compute the network in half precision.
        start: checkpoint of the same network to begin with, "" for random weights.
        flame: FLAME's file, for networks on FLAME.
        vgg: VGG-16's weights for the perceptual loss; "" for the substitute.
        lpips: LPIPS's linear layers.
        seed: of weights and samples.
    """

    model: LamConfig
    loss: TrainConfig
    iterations: int
    size: int = 512
    views: int = 0
    correct_poses: float = 0.0
    bfloat16: bool = False
    start: str = ""
    flame: str = ""
    vgg: str = ""
    lpips: str = ""
    seed: int = 0


def small(subdivisions: int = 0) -> LearnConfig:
    """One person or a few on a CPU, from nothing."""
    loss = TrainConfig(
        perceptual=0.2,
        mask=0.3,
        offset=3.0,
        free_offset=0.005,
        frames=2,
        learning_rate=1e-3,
        point_rate=20.0,
        warmup=20,
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    model = replace(presets.small(subdivisions), expressions=52)
    return LearnConfig(model, loss, iterations=3000, size=256, views=256, correct_poses=0.5)


def released() -> LearnConfig:
    """The released configuration on FLAME recordings: 20,018 Gaussians, bfloat16, 512 pixels, 8 frames."""
    return LearnConfig(presets.released_20k(), TrainConfig(), iterations=100_000, bfloat16=True)


def paper() -> LearnConfig:
    """The paper's text: 81,424 Gaussians, frozen encoder (give its weights with start), all weights one."""
    return replace(released(), model=presets.paper())


def _small_with(change: Callable[[LamConfig], LamConfig]) -> Callable[[], LearnConfig]:
    return lambda: replace(small(), model=change(small().model))


PRESETS: dict[str, Callable[[], LearnConfig]] = {
    "small": small,
    "small-20k": lambda: small(1),
    "small-80k": lambda: small(2),
    "small-triplane": _small_with(presets.triplane_queries),
    "small-posed": _small_with(presets.posed_space),
    "small-painted": _small_with(presets.painted_features),
    "released": released,
    "paper": paper,
}


class Learner:
    """What the training loop runs: `headsplat.train.loop.Trainable`."""

    def __init__(
        self, people: Sequence[Person], rig: Rig, settings: LearnConfig, device: str = "cpu"
    ) -> None:
        """A network at its start, for these people.

        Args:
            people: at least one.
            rig: of the head model that their parameters are for.
            settings: what and how to learn.
            device: "cpu" or "cuda".

        Raises:
            HeadsplatError: weights cannot be read or are of another network.
        """
        self.people, self.settings, self.device = list(people), settings, device
        self.rig = rig.to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = Lam(settings.model)
        if settings.start:
            model, _ = load_lam(settings.start, settings.model)
        self.model = model.to(device)
        self.optimizer = optimizer_of(self.model, settings.loss)
        self.corrections = None
        if settings.correct_poses:
            sizes = len(rig.head.expression_names), len(rig.joint_template)
            self.corrections = Corrections([p.learned for p in people], *sizes).to(device)
            for group in self.corrections.groups(settings.correct_poses):
                self.optimizer.add_param_group(group)
        self.perceptual = losses.perceptual(settings.vgg or None, settings.lpips or None)
        self.precision = torch.bfloat16 if settings.bfloat16 else torch.float32

    @property
    def iterations(self) -> int:
        """How many steps make a finished model."""
        return self.settings.iterations

    def step(self, iteration: int) -> dict[str, float]:
        """Some frames of one person, one of them the source of the head, all of them targets."""
        # A generator of its own per step needs no place in the checkpoint.
        rng = np.random.default_rng([self.settings.seed, iteration])
        number = int(rng.integers(len(self.people)))
        source, target = self.sample(number, rng)
        self.model.train()
        return train_step(
            self.model,
            self.rig,
            self.optimizer,
            (source, target),
            learning_rate(iteration, self.iterations, self.settings.loss),
            self.settings.loss,
            self.perceptual,
            self.precision,
            None if self.corrections is None else self.corrections.penalty(number),
        )

    def sample(self, number: int, rng: np.random.Generator) -> tuple[Source, Target]:
        """Some frames of a person on some background; the first of them is the source."""
        person, loss = self.people[number], self.settings.loss
        chosen = rng.choice(person.learned, min(loss.frames, person.learned), replace=False).tolist()
        background = float(rng.choice(loss.backgrounds))
        frames = [person[i] for i in chosen]
        source = source_of(frames[0], self.settings.model, background).to(self.device)
        return source, self._corrected(target_of(frames, background).to(self.device), number, chosen)

    def _corrected(self, target: Target, person: int, frames: Sequence[int]) -> Target:
        if self.corrections is None:
            return target
        return replace(target, pose=self.corrections.corrected(target.pose, person, frames))

    def state(self) -> dict[str, Any]:
        """Network and optimiser; samples and rates follow from the number of the step."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.corrections is not None:
            state["corrections"] = self.corrections.state_dict()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.corrections is not None:
            self.corrections.load_state_dict(state["corrections"])

    def preview(self, iteration: int) -> np.ndarray:
        """The first person's source, one more frame, held out if there is one, and its drawing."""
        person = self.people[0]
        shown = len(person) - max(1, person.held_out // 2)
        drawn = self.draw(0, [shown])[0]
        return np.concatenate([_on_white(person[person.best]), _on_white(person[shown]), drawn], 1)

    def judge(self) -> dict[str, float]:
        """Mean PSNR (dB inside the matte) of each person's head, made of its best frame, in its other frames.

        Learned frames are judged in their corrected poses, held-out ones in the poses that the tracker found.
        """
        figures: dict[str, list[float]] = {"learned_psnr": [], "held_out_psnr": []}
        for number, person in enumerate(self.people[:MOST_JUDGED]):
            learned = _evenly(0, person.learned, JUDGED)
            held = _evenly(person.learned, len(person), JUDGED)
            for name, frames in zip(figures, (learned, held), strict=True):
                if frames:
                    drawn = self.draw(number, frames)
                    figures[name].append(mean_psnr(drawn, [person[i] for i in frames]))
        return {name: float(np.mean(values)) for name, values in figures.items() if values}

    def draw(self, number: int, frames: Sequence[int]) -> list[np.ndarray]:
        """(H, W, 3) pictures on white of a person's head, made of its best frame, in the poses of frames."""
        person = self.people[number]
        source = source_of(person[person.best], self.settings.model).to(self.device)
        self.model.eval()
        with torch.inference_mode():
            prediction = predict(self.model, self.rig, source)
            pictures = []
            for i in frames:
                target = target_of([person[i]]).to(self.device)
                if i < person.learned:
                    target = self._corrected(target, number, [i])
                cloud = self.rig.gaussians(prediction, source.betas, target.pose)[0]
                pictures.append(_picture(cloud, person[i]))
        return pictures

    def avatar(self, person: Person) -> Avatar:
        """A person's avatar, made from its best frame."""
        return avatar_of(self.model.eval(), self.rig, person[person.best], device=self.device)


def trainable(data: Sequence[Path], settings: LearnConfig, device: str) -> Learner:
    """What the loop trains.

    Raises:
        HeadsplatError: photos, recordings or weights cannot be read or do not fit.
    """
    _check(settings)
    head, on_flame = load_free_head(), settings.model.head == "flame"
    if on_flame:
        from headsplat.head.flame import load_flame

        if not settings.flame:
            raise HeadsplatError("This LAM is on FLAME; give its file with --set flame=flame2023.pkl.")
        head = load_flame(settings.flame)
    people = people_of(data, settings.size, head if on_flame else None, settings.views)
    if settings.model.expressions and all(person.learned == 1 for person in people):
        # One picture cannot tell what a face's colours owe to its expression.
        settings = replace(settings, model=replace(settings.model, expressions=0))
    return Learner(people, Rig.of(head, settings.model), settings, device)


def deliver(learner: Learner, out: Path) -> dict[str, Any]:
    """Write the checkpoint, and of the first person the avatar and a contact sheet, into the run's folder.

    The sheet shows held-out frames (learned ones where nothing was held out) above the avatar in their poses.

    Returns:
        The files, and `avatar_psnr`: of the avatar as it plays, on the sheet's frames.
    """
    from headsplat.avatar_file import save_avatar
    from headsplat.data.image import write_image

    person = learner.people[0]
    weights, path, sheet = out / "lam.safetensors", out / "model.avatar", out / "frames.png"
    save_lam(learner.model, weights)
    avatar = learner.avatar(person)
    save_avatar(avatar, path)
    first = person.learned if person.held_out else 0
    frames = [person[i] for i in _evenly(first, len(person), SHOWN)]
    played = [_played(avatar, frame) for frame in frames]
    rows = [np.concatenate([_on_white(frame) for frame in frames], 1), np.concatenate(played, 1)]
    write_image(sheet, np.concatenate(rows))
    return {
        "weights": str(weights),
        "avatar": str(path),
        "sheet": str(sheet),
        "gaussians": len(avatar),
        "avatar_psnr": round(mean_psnr(played, frames), 2),
        "perceptual": learner.perceptual.name,
    }


def mean_psnr(pictures: Sequence[np.ndarray], frames: Sequence[Frame]) -> float:
    """Mean of the decibels between pictures on white and those of frames, inside their mattes."""
    values = []
    for picture, frame in zip(pictures, frames, strict=True):
        inside = (frame.alpha > 0.5) & frame.valid
        error = ((picture - _on_white(frame)) ** 2).mean(-1)[inside].mean()
        values.append(-10 * np.log10(max(float(error), 1e-10)))
    return float(np.mean(values))


def _check(settings: LearnConfig) -> None:
    if not 32 <= settings.size <= 2048:
        raise HeadsplatError(f"The setting size is {settings.size}; give 32 to 2048 pixels.")
    if settings.loss.frames < 1 or settings.views < 0:
        raise HeadsplatError("A sample needs at least one frame, and views cannot be negative.")
    if settings.loss.learning_rate <= 0 or settings.loss.warmup < 0:
        raise HeadsplatError("The learning rate must be positive, and the warm-up not negative.")


def _evenly(start: int, stop: int, most: int) -> list[int]:
    return np.unique(np.linspace(start, stop - 1, min(most, stop - start)).round().astype(int)).tolist()


def _on_white(frame: Frame) -> np.ndarray:
    alpha = frame.alpha[..., None]
    return frame.foreground * alpha + (1 - alpha)


def _picture(cloud: Gaussians, frame: Frame) -> np.ndarray:
    image = rasterize(cloud, frame.camera, background=1.0, depth=False).image
    return np.clip(image if isinstance(image, np.ndarray) else image.float().cpu().numpy(), 0, 1)


def _played(avatar: Avatar, frame: Frame) -> np.ndarray:
    turned = dict(zip(avatar.joints, frame.rotations, strict=True))
    return _picture(avatar.animate(frame.expression, turned, frame.T_world_root), frame)

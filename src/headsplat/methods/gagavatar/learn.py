"""Train GAGAvatar on tracked recordings: what the loop of `headsplat train gagavatar` needs of the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headsplat import losses
from headsplat.data.dataset import Dataset
from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.gagavatar import read_gagavatar
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.losses import Perceptual
from headsplat.methods.gagavatar.config import GagavatarConfig, ours, small
from headsplat.methods.gagavatar.flame import load_flame_with_eye
from headsplat.methods.gagavatar.losses import field_perceptual
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.methods.gagavatar.subject import Subject
from headsplat.methods.gagavatar.train import LossWeights, Target, draw_views, loss_parts, total_loss
from headsplat.methods.gagavatar.weights import load_loss_networks, save_gagavatar

SLOW = ("style_mlp", "final_linear")
"""Parts of parameters' names that learn at a tenth of the rate."""


@dataclass(frozen=True)
class Settings:
    """One training.

    Attributes:
        model: the network.
        loss: weights of its terms.
        iterations: steps.
        targets: frames matched per step, all of one person and lifted from one other frame of hers.
        people: persons per step.
        size: side of the pictures drawn, pixels.
        crop: side to which heads are resized for the loss.
        learning_rate: of Adam, falling linearly to a tenth.
        warmup: steps over which it rises from nothing first.
        slow: factor on it for the style's layers.
        momentum: Adam's first beta.
        frames: learn from so many frames of each recording, spread evenly; 0 takes all.
        seed: of the network's first values and of what is drawn.
        flame: FLAME_with_eye.pt, for recordings tracked with FLAME.
        half: do the neural renderer's arithmetic in bfloat16.
        loss_networks: a released checkpoint whose AlexNet and VGG-Face measure; "" takes the substitute of
            `headsplat.losses.perceptual`, which says so.
    """

    model: GagavatarConfig = field(default_factory=small)
    loss: LossWeights = field(default_factory=LossWeights)
    iterations: int = 200_000
    targets: int = 1
    people: int = 8
    size: int = 512
    crop: int = 512
    learning_rate: float = 1e-4
    warmup: int = 0
    slow: float = 0.1
    momentum: float = 0.0
    frames: int = 0
    seed: int = 42
    half: bool = False
    flame: str = ""
    loss_networks: str = ""


def small_settings() -> Settings:
    """One person on two cores in half an hour."""
    return Settings(
        loss=LossWeights(perceptual=0.1, lifting=1.0),
        iterations=3000,
        people=1,
        size=256,
        crop=128,
        learning_rate=2e-3,
        warmup=50,
        slow=0.3,
        momentum=0.9,
        half=True,
    )


def ours_settings() -> Settings:
    """The released recipe on the method as it is meant, on the free head: for GPUs."""
    return Settings(model=ours())


PRESETS: dict[str, Callable[[], Settings]] = {"small": small_settings, "ours": ours_settings}


class Learner:
    """A network, its optimiser and the recordings that it learns from (`headsplat.train.loop.Trainable`)."""

    def __init__(self, subjects: Sequence[Subject], settings: Settings, device: str) -> None:
        if settings.model.expression_quats == "vertices":
            raise HeadsplatError(
                "The released way with quaternions cannot be trained; set model.expression_quats=unit."
            )
        self.subjects, self.settings, self.device = list(subjects), settings, device
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.model = Gagavatar(settings.model)
            start_near_the_plane(self.model)
            self.model.to(device)
        self.model.renderer_type = torch.bfloat16 if settings.half else torch.float32
        self.optimizer = optimizer_of(self.model, settings)
        self.perceptual = _perceptual(settings.loss_networks)
        # Every frame is a target once per epoch.
        self._train = [(s, n) for s, subject in enumerate(self.subjects) for n in self._learned(subject)]

    @property
    def iterations(self) -> int:
        """How many steps make a finished model."""
        return self.settings.iterations

    def step(self, iteration: int) -> dict[str, float]:
        """One step of Adam; what it sees depends on the seed and its number alone."""
        self.model.train()
        settings = self.settings
        share, rise = iteration / max(settings.iterations, 1), (iteration + 1) / max(settings.warmup, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * min(rise, 1.0) * (1 - 0.9 * share)
        self.optimizer.zero_grad(set_to_none=True)
        logged: dict[str, float] = {}
        for person in range(settings.people):
            parts = self._parts(*self._drawn(iteration * settings.people + person))
            loss = total_loss(parts, settings.loss)
            (loss / settings.people).backward()
            for name, value in {"loss": loss, **parts}.items():
                logged[name] = logged.get(name, 0.0) + value.item() / settings.people
        self.optimizer.step()
        return logged

    def state(self) -> dict[str, Any]:
        """Parameters and Adam's moments; nothing else decides the steps to come."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def preview(self, iteration: int) -> np.ndarray:
        """Rows of source, target, coarse and fine picture: one of the learned frames, one of the others."""
        subject = self.subjects[0]
        learned = self._learned(subject)
        rows = []
        for number in (learned[len(learned) // 2], *subject.test[len(subject.test) // 2 :][:1]):
            target = subject.target(number)
            source = subject.target(learned[0]).image
            coarse, fine = self.pictures(subject, learned[0], [target])
            pictures = [source, target.image, coarse[0], fine[0]]
            rows.append(torch.cat([p.clamp(0, 1) for p in pictures], 1))
        return torch.cat(rows).cpu().numpy()

    def judge(self) -> dict[str, float]:
        """PSNR inside the matte, dB, of fine and coarse pictures on up to 24 frames each.

        `fit` is of frames learned from, `psnr` of frames held out; all are lifted from the first.
        """
        fit: dict[str, list[float]] = {"fit": [], "fit_coarse": [], "psnr": [], "psnr_coarse": []}
        for subject in self.subjects:
            learned = self._learned(subject)
            for name, numbers in {"fit": learned, "psnr": subject.test}.items():
                targets = [subject.target(n) for n in _spread(numbers, 24)]
                coarse, fine = self.pictures(subject, learned[0], targets)
                for target, a, b in zip(targets, coarse, fine, strict=True):
                    fit[f"{name}_coarse"].append(_psnr(a, target))
                    fit[name].append(_psnr(b, target))
        return {name: float(np.mean(values)) for name, values in fit.items() if values}

    @torch.no_grad()
    def pictures(self, subject: Subject, source: int, targets: list[Target]) -> tuple[Tensor, Tensor]:
        """Coarse and fine (B, H, W, 3) pictures of targets, lifted from frame `source`."""
        self.model.eval()
        image, camera = subject.source(source)
        made = self.model.reconstruct(image, [camera])
        views = [draw_views(self.model, made, [target]) for target in targets]
        coarse = torch.cat([v.coarse for v in views])
        return coarse, torch.cat([v.coarse if v.fine is None else v.fine for v in views])

    def _learned(self, subject: Subject) -> list[int]:
        return _spread(subject.train, self.settings.frames or len(subject.train))

    def _drawn(self, draw: int) -> tuple[Subject, int, list[int]]:
        """The person, the source frame and the target frames of one draw."""
        settings, count = self.settings, len(self._train)
        wanted = []
        for i in range(draw * settings.targets, (draw + 1) * settings.targets):
            order = np.random.default_rng([settings.seed, 1, i // count]).permutation(count)
            wanted.append(self._train[order[i % count]])
        person = wanted[0][0]
        subject = self.subjects[person]
        targets = [n for who, n in wanted if who == person]
        others = [n for n in self._learned(subject) if n not in targets] or targets
        source = np.random.default_rng([settings.seed, 2, draw]).choice(others)
        return subject, int(source), targets

    def _parts(self, subject: Subject, source: int, numbers: list[int]) -> dict[str, Tensor]:
        image, camera = subject.source(source)
        made = self.model.reconstruct(image, [camera])
        targets = [subject.target(n) for n in numbers]
        wanted, mattes, boxes, vertices = (
            torch.stack([getattr(t, name) for t in targets]) for name in ("image", "alpha", "box", "vertices")
        )
        views = draw_views(self.model, made, targets)
        return loss_parts(views, wanted, boxes, vertices, self.perceptual, self.settings.crop, mattes)


def trainable(data: Sequence[Path], settings: Settings, device: str) -> Learner:
    """What the loop trains, on these folders.

    Raises:
        HeadsplatError: a recording cannot be read or does not fit the settings.
    """
    head = _head(settings)
    recordings = [recording for folder in data for recording in recordings_in(folder)]
    subjects = [Subject(r, head, settings.model, settings.size, device) for r in recordings]
    return Learner(subjects, settings, device)


def recordings_in(folder: Path) -> list[Dataset]:
    """The recordings of a folder, one person each.

    A folder of GAGAvatar's tracker may hold many videos; those with fewer than two frames to learn from are
    left out.

    Raises:
        HeadsplatError: it cannot be read.
    """
    whole = read_dataset(folder)
    videos = whole.info.get("videos", {})
    if whole.layout != "gagavatar" or len(videos) < 2:
        return [whole]
    parts = [read_gagavatar(whole.root, video=video) for video in videos]
    return [part for part in parts if len(part.train) > 1] or [whole]


def deliver(learner: Learner, out: Path) -> dict[str, Any]:
    """Write the network, and the avatar of the first person lifted from her first frame."""
    from headsplat.avatar_file import save_avatar
    from headsplat.methods.gagavatar.create import avatar_of

    save_gagavatar(learner.model, out / "model.safetensors")
    subject = learner.subjects[0]
    number = learner._learned(subject)[0]
    image, camera = subject.source(number)
    matte, source = subject.target(number).alpha, str(subject.dataset.info.get("source", ""))
    avatar = avatar_of(learner.model, subject.shaped, image, camera, matte=matte, source=source)
    save_avatar(avatar, out / "model.avatar")
    return {"model": str(out / "model.safetensors"), "avatar": str(out / "model.avatar")}


def start_near_the_plane(model: Gagavatar) -> None:
    """First values of the lifting heads that make a flat, almost solid copy of the picture's plane."""
    config = model.config
    heads = [model.gs_generator_l0] + ([model.gs_generator_l1] if config.planes == 2 else [])
    channels = config.channels
    for head in heads:
        last = head.gaussian_conv[-1]
        assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias[channels + 1 : channels + 4] = -1.2  # as large as they are apart
            last.bias[channels + 4] = 1.0  # quaternions begin near the identity
            last.bias[channels + 8] = -2.0  # offsets at an eighth of their reach


def optimizer_of(model: Gagavatar, settings: Settings) -> torch.optim.Optimizer:
    """Adam over what learns, the style's layers slower; each group's `factor` multiplies the rate."""
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}
    slow = [p for name, p in free.items() if any(part in name for part in SLOW)]
    fast = [p for name, p in free.items() if not any(part in name for part in SLOW)]
    groups = [{"params": fast, "factor": 1.0}, {"params": slow, "factor": settings.slow}]
    return torch.optim.Adam(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.99))


def _perceptual(path: str) -> Perceptual:
    return field_perceptual(load_loss_networks(path)) if path else losses.perceptual()


def _head(settings: Settings) -> HeadModel:
    if settings.model.head == "free":
        return load_free_head()
    if not settings.flame:
        raise HeadsplatError(
            "A model on FLAME needs FLAME's file; give it with --set flame=FLAME_with_eye.pt."
        )
    return load_flame_with_eye(settings.flame).head


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most `count` of the numbers, evenly spread, the first among them."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[i] for i in np.linspace(0, len(numbers) - 1, count).round().astype(int)]


def _psnr(picture: Tensor, target: Target) -> float:
    inside = target.alpha > 0.5
    error = (picture.clamp(0, 1) - target.image).square().mean(-1)[inside].mean()
    return -10 * float(torch.log10(error.clamp(min=1e-10)))

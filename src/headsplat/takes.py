"""Built-in takes: hand-made motions that show an avatar alive (`hello`, `speak`, `range`).

Each is built of the layers that a living face has: blinks, breath, a swaying head, eyes that jump from point
to point with the lids following, visemes, and a few gestures. All start and end at rest, so they loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head.arkit import ARKIT
from headsplat.motion import Motion, split_head_turn

TAKES: Mapping[str, str] = {
    "hello": "looks at you, smiles, says hello and nods",
    "speak": "says a sentence, as one does",
    "range": "every expression once, then the head in every direction",
}

JOINTS = ("neck", "head", "left_eye", "right_eye")

GAZE = 0.55
"""Radians that the eyes turn at weight 1 of an eyeLook expression."""

# Mouth shapes of speech as expression weights, both sides alike where a name ends in "*"; named as the common
# fifteen visemes are.
VISEMES: Mapping[str, Mapping[str, float]] = {
    "sil": {},
    "PP": {"mouthPress*": 0.45, "mouthRollLower": 0.3, "mouthRollUpper": 0.3},
    "FF": {"jawOpen": 0.06, "mouthRollLower": 0.5, "mouthUpperUp*": 0.25},
    "TH": {"jawOpen": 0.14, "mouthLowerDown*": 0.2, "mouthUpperUp*": 0.1, "tongueOut": 0.2},
    "DD": {"jawOpen": 0.12, "mouthLowerDown*": 0.25, "mouthStretch*": 0.1},
    "kk": {"jawOpen": 0.2, "mouthLowerDown*": 0.2, "mouthStretch*": 0.1},
    "CH": {"jawOpen": 0.1, "mouthFunnel": 0.5, "mouthPucker": 0.15},
    "SS": {"jawOpen": 0.05, "mouthStretch*": 0.3, "mouthLowerDown*": 0.25, "mouthUpperUp*": 0.15},
    "nn": {"jawOpen": 0.13, "mouthLowerDown*": 0.15},
    "RR": {"jawOpen": 0.13, "mouthFunnel": 0.35, "mouthPucker": 0.2},
    "aa": {"jawOpen": 0.45, "mouthLowerDown*": 0.25, "mouthUpperUp*": 0.1},
    "E": {"jawOpen": 0.26, "mouthStretch*": 0.3, "mouthLowerDown*": 0.2, "mouthDimple*": 0.1},
    "I": {"jawOpen": 0.18, "mouthStretch*": 0.25, "mouthSmile*": 0.15, "mouthLowerDown*": 0.15},
    "O": {"jawOpen": 0.32, "mouthFunnel": 0.45, "mouthPucker": 0.15},
    "U": {"jawOpen": 0.14, "mouthPucker": 0.6, "mouthFunnel": 0.3},
}

# (viseme, seconds) in order; "sil" is a pause.
_HELLO = "sil .1 kk .08 E .12 nn .09 O .22 sil .4"
_SENTENCE = (
    "sil .5 kk .07 aa .12 I .12 sil .25 "  # Hi.
    "aa .1 I .1 PP .08 aa .1 DD .06 U .1 PP .07 I .08 aa .08 PP .08 I .1 kk .06 CH .1 RR .12 sil .3 "
    "nn .08 aa .12 U .1 aa .09 I .09 kk .07 aa .1 nn .07 SS .08 PP .07 I .14 kk .09 sil .28 "
    "SS .08 nn .06 aa .16 I .12 FF .09 RR .08 aa .1 U .12 nn .12 sil .25 "
    "aa .08 nn .06 DD .06 U .1 kk .06 aa .1 DD .06 U .16 sil .22 CH .1 aa .14 TH .1 aa .1 nn .1 sil .6"
)


def take(name: str, fps: float = 30.0, seed: int = 0) -> Motion:
    """A built-in take, the same every time for the same `seed`.

    Args:
        name: a key of `TAKES`.
        fps: frames per second.
        seed: another one blinks and looks about at other moments.

    Raises:
        HeadsplatError: there is no such take.
    """
    if name == "hello":
        return _hello(fps, seed)
    if name == "speak":
        return _speak(fps, seed)
    if name == "range":
        return _range(fps)
    raise HeadsplatError(f"There is no take {name!r}; the built-in ones are {', '.join(TAKES)}.")


def _hello(fps: float, seed: int) -> Motion:
    face = _Face(5.0, fps)
    face.live(seed, calm=True)
    face.gesture("browInnerUp", 0.45, at=0.7, rise=0.18, hold=0.25, fall=0.5)
    face.gesture("browOuterUp*", 0.4, at=0.7, rise=0.18, hold=0.25, fall=0.5)
    face.gesture("eyeWide*", 0.2, at=0.7, rise=0.15, hold=0.15, fall=0.4)
    face.gesture("mouthSmile*", 0.35, at=0.6, rise=0.4, hold=0.9, fall=0.4)
    face.speech(_HELLO, start=1.15)
    face.gesture("mouthSmile*", 0.5, at=2.0, rise=0.35, hold=1.3, fall=0.8)
    face.gesture("cheekSquint*", 0.45, at=2.05, rise=0.35, hold=1.2, fall=0.8)
    face.gesture("eyeSquint*", 0.25, at=2.05, rise=0.35, hold=1.2, fall=0.8)
    face.gesture("mouthDimple*", 0.2, at=2.05, rise=0.3, hold=1.2, fall=0.8)
    face.nod(0.14, at=1.25, seconds=0.55)
    face.nod(0.06, at=1.85, seconds=0.5)
    face.turn((0.0, 0.10, 0.09), at=2.0, rise=0.6, hold=1.1, fall=1.0)
    return face.motion()


def _speak(fps: float, seed: int) -> Motion:
    seconds = sum(length for _, length in _phones(_SENTENCE))
    face = _Face(seconds + 0.6, fps)
    face.live(seed + 1, calm=False)
    face.speech(_SENTENCE, start=0.2)
    rng = np.random.default_rng(seed + 2)
    # Brows and head mark the stressed words.
    for beat in np.arange(0.75, seconds - 0.5, 1.05):
        at = beat + rng.uniform(-0.15, 0.15)
        lift = rng.uniform(0.1, 0.4)
        face.gesture("browInnerUp", lift, at=at, rise=0.14, hold=0.12, fall=0.35)
        face.gesture("browOuterUp*", 0.7 * lift, at=at, rise=0.14, hold=0.12, fall=0.35)
        face.nod(rng.uniform(0.02, 0.06), at=at, seconds=0.5)
        turn = (rng.uniform(-0.02, 0.03), rng.uniform(-0.10, 0.10), rng.uniform(-0.05, 0.05))
        face.turn(turn, at=at - 0.1, rise=0.35, hold=0.25, fall=0.6)
    face.gesture("mouthSmile*", 0.4, at=seconds - 0.7, rise=0.3, hold=0.3, fall=0.6)
    face.gesture("cheekSquint*", 0.3, at=seconds - 0.7, rise=0.3, hold=0.3, fall=0.6)
    face.gesture("mouthSmile*", 0.2, at=0.3, rise=0.4, hold=1.5, fall=0.8)
    return face.motion()


def _range(fps: float) -> Motion:
    slot = 0.42
    turns = ((0, 0.5, 0), (0, -0.5, 0), (-0.3, 0, 0), (0.3, 0, 0), (0, 0, 0.3), (0, 0, -0.3))
    face = _Face(slot * len(ARKIT) + 1.3 * len(turns) + 0.4, fps)
    for i, name in enumerate(ARKIT):
        face.gesture(name, 1.0, at=i * slot, rise=0.16, hold=0.08, fall=0.16)
        if name == "mouthClose":
            # The lips can only close over an open jaw.
            face.gesture("jawOpen", 0.6, at=i * slot, rise=0.12, hold=0.16, fall=0.12)
    for i, turn in enumerate(turns):
        face.turn(turn, at=slot * len(ARKIT) + 0.2 + 1.3 * i, rise=0.5, hold=0.2, fall=0.5)
    return face.motion()


class _Face:
    """Weights and rotations under construction; each method adds one layer."""

    def __init__(self, seconds: float, fps: float) -> None:
        self.fps = fps
        self.times = np.arange(max(2, round(seconds * fps))) / fps
        self.seconds = len(self.times) / fps
        self.weights = np.zeros((len(self.times), len(ARKIT)))
        self.head = np.zeros((len(self.times), 3))

    def gesture(self, name: str, weight: float, *, at: float, rise: float, hold: float, fall: float) -> None:
        """Bring an expression (both sides for a name ending in "*") to `weight` and back; the larger wins."""
        curve = weight * self._pulse(at, rise, hold, fall)
        for column in _columns(name):
            self.weights[:, column] = np.maximum(self.weights[:, column], curve)

    def turn(self, turn: Sequence[float], *, at: float, rise: float, hold: float, fall: float) -> None:
        """Turn the head by the rotation vector `turn` (radians) and back."""
        self.head += self._pulse(at, rise, hold, fall)[:, None] * np.asarray(turn)

    def nod(self, angle: float, *, at: float, seconds: float) -> None:
        """One nod down by `angle` radians."""
        self.turn((angle, 0, 0), at=at, rise=0.45 * seconds, hold=0, fall=0.55 * seconds)

    def speech(self, phones: str, start: float) -> None:
        """Mouth shapes of "VISEME SECONDS ..." from `start` on, blurred as neighbouring sounds are."""
        inside = np.zeros((len(self.times), len(ARKIT)))
        for viseme, seconds in _phones(phones):
            now = (self.times >= start) & (self.times < start + seconds)
            for name, weight in VISEMES[viseme].items():
                inside[now[:, None] & np.isin(np.arange(len(ARKIT)), _columns(name))] = weight
            start += seconds
        # Lips that meet must really meet, so that layer is blurred less.
        wide, narrow = self._blur(inside, 0.045), self._blur(inside, 0.02)
        lips = [
            ARKIT.index(n) for n in ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper")
        ]
        wide[:, lips] = narrow[:, lips]
        self.weights = np.maximum(self.weights, wide)

    def live(self, seed: int, *, calm: bool) -> None:
        """Blinks, breath, sway and glances."""
        rng = np.random.default_rng(seed)
        phase = 2 * np.pi * self.times / self.seconds
        edge = np.clip(np.minimum(self.times, self.seconds - self.times) / 0.5, 0, 1)[:, None]
        # Whole periods in the length of the take, so that it loops.
        slow = max(1, round(self.seconds / 4.0))
        sway = np.stack(
            [
                0.012 * np.sin(slow * phase) + 0.006 * np.sin((2 * slow + 1) * phase + 1),
                0.030 * np.sin((slow + 1) * phase + rng.uniform(0, 6))
                + 0.012 * np.sin((2 * slow + 1) * phase),
                0.014 * np.sin((slow + 2) * phase + rng.uniform(0, 6)),
            ],
            1,
        )
        self.head += edge * sway * (0.7 if calm else 1.0)
        self._glance(rng, 0.03 if calm else 0.07)
        at = rng.uniform(0.2, 0.5)
        while at < self.seconds - 0.5:
            self.gesture("eyeBlink*", 1.0, at=at, rise=0.09, hold=0.04, fall=0.17)
            at += rng.uniform(1.6, 3.4)

    def _glance(self, rng: np.random.Generator, size: float) -> None:
        """Eyes jump to a new point now and then, and back to the viewer; the lids follow."""
        gaze = np.zeros((len(self.times), 2))
        at = rng.uniform(0.5, 1.0)
        while at < self.seconds - 1.0:
            stay = rng.uniform(0.35, 0.9)
            target = rng.normal(0, size, 2) * (1.4, 0.7)
            during = (self.times >= at) & (self.times < at + stay)
            gaze[during] = target
            at += stay + rng.uniform(0.5, 1.6)
        yaw, pitch = self._blur(gaze, 0.02).T / GAZE
        # Eyes to the subject's left: the left eye looks out, the right one in.
        for name, curve in (
            ("eyeLookOutLeft", yaw),
            ("eyeLookInRight", yaw),
            ("eyeLookInLeft", -yaw),
            ("eyeLookOutRight", -yaw),
            ("eyeLookDown*", pitch),
            ("eyeLookUp*", -pitch),
        ):
            for column in _columns(name):
                self.weights[:, column] = np.maximum(self.weights[:, column], curve)

    def motion(self) -> Motion:
        """What was built, with the eyes turned as their eyeLook weights say."""
        rotations = np.zeros((len(self.times), len(JOINTS), 3))
        rotations[:, 0], rotations[:, 1] = split_head_turn(self.head)
        rotations[:, 2], rotations[:, 3] = eye_turns(ARKIT, self.weights)
        weights = np.clip(self.weights, 0, 1).astype(np.float32)
        return Motion(weights, ARKIT, rotations.astype(np.float32), JOINTS, self.fps)

    def _pulse(self, at: float, rise: float, hold: float, fall: float) -> np.ndarray:
        up = _ease((self.times - at) / rise)
        return np.minimum(up, 1 - _ease((self.times - at - rise - hold) / fall))

    def _blur(self, values: np.ndarray, seconds: float) -> np.ndarray:
        radius = max(1, int(np.ceil(3 * seconds * self.fps)))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (seconds * self.fps)) ** 2)
        kernel /= kernel.sum()
        padded = np.pad(values, ((radius, radius), (0, 0)))
        return np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0) @ kernel


def eye_turns(names: Sequence[str], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors (T, 3) of the left and of the right eye that (T, E) eyeLook weights speak of."""

    def weight(name: str) -> np.ndarray:
        return weights[:, names.index(name)] if name in names else np.zeros(len(weights))

    turns = []
    for side, out in (("Left", 1.0), ("Right", -1.0)):
        yaw = out * (weight(f"eyeLookOut{side}") - weight(f"eyeLookIn{side}"))
        pitch = weight(f"eyeLookDown{side}") - weight(f"eyeLookUp{side}")
        turns.append(GAZE * np.stack([pitch, yaw, np.zeros_like(yaw)], 1))
    return turns[0], turns[1]


def _ease(t: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _phones(text: str) -> list[tuple[str, float]]:
    words = text.split()
    return [(viseme, float(length)) for viseme, length in zip(words[::2], words[1::2], strict=True)]


def _columns(name: str) -> list[int]:
    names = [name.replace("*", "Left"), name.replace("*", "Right")] if name.endswith("*") else [name]
    return [ARKIT.index(n) for n in names]

"""One case: let every method answer, and judge the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from headsplat.evaluate import metrics
from headsplat.evaluate.cases import Case
from headsplat.evaluate.judge import Verdict, judge
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.observe import find_points, reason_of
from headsplat.evaluate.peak import megabytes
from headsplat.evaluate.predict import Goal, Made, Maker, Method, Prediction, Predictor, prepare
from headsplat.evaluate.stage import Stage, Target, set_up
from headsplat.track import landmarks as lm


@dataclass(frozen=True)
class Answer:
    """What one method did in one case.

    Attributes:
        method: as written by the user.
        targets: label, yaw, scores and missing of each target, JSON-serialisable.
        failed: why there is no answer at all, or None.
        cost: seconds to make, seconds per picture, peak megabytes of the process; not repeatable.
        pictures: (H, W, 3) per target; None where the method gave none.
    """

    method: str
    targets: list[dict[str, Any]]
    failed: str | None
    cost: dict[str, float]
    pictures: list[np.ndarray | None]


def answer(stage: Stage, method: Method, make: Maker, networks: Networks, made: Made) -> Answer:
    """Let one method answer all targets of a case, and judge it. What it fails at is written down."""
    try:
        predictor = prepare(method, stage.sources, make, made, stage.clip)
    except Exception as error:
        return Answer(str(method), [], reason_of(error), {}, [])
    rows, pictures, seconds = [], [], 0.0
    for target in stage.targets:
        start = perf_counter()
        prediction = _drawn(predictor, target.goal)
        seconds += perf_counter() - start
        pictures.append(None if isinstance(prediction, str) else prediction.image)
        if isinstance(prediction, str):
            verdict = Verdict({}, {"all": prediction}, None)
        else:
            verdict = judge(prediction, target.truth, networks)
            verdict = _with_jitter(verdict, predictor, target)
        rows.append(
            {
                "target": target.label,
                "yaw": round(target.yaw, 2),
                "scores": verdict.scores,
                "missing": verdict.missing,
            }
        )
    cost = {
        "make_seconds": predictor.seconds,
        "picture_seconds": seconds / len(stage.targets),
        "peak_mb": megabytes(),
    }
    return Answer(str(method), rows, None, cost, pictures)


def answers(
    case: Case,
    data: Path,
    kept: Path,
    methods: Sequence[Method],
    make: Maker,
    networks: Networks,
    made: Made,
) -> tuple[list[Answer], Stage | None]:
    """All methods in one case; without a usable source they all fail for the same reason.

    Args:
        case: what is asked.
        data: folder that its pictures are relative to.
        kept: folder for what tracking finds.
        methods: who answers.
        make: makes avatars.
        networks: for LPIPS and CSIM.
        made: avatars of earlier cases with the same sources; those of this case are added.
    """
    try:
        stage = set_up(case, data, kept)
    except Exception as error:
        return [Answer(str(method), [], reason_of(error), {}, []) for method in methods], None
    return [answer(stage, method, make, networks, made) for method in methods], stage


def _with_jitter(verdict: Verdict, predictor: Predictor, target: Target) -> Verdict:
    """The verdict with the shake of three frames in a row, in percent of the outer-eye distance."""
    scores, missing = dict(verdict.scores), dict(verdict.missing)
    reason = "frames do not follow each other" if not target.beside else None
    drawn: list[np.ndarray | None] = [verdict.points]
    if target.beside:
        drawn = [*(_points_of(_drawn(predictor, goal), points) for goal, points in target.beside)]
        drawn.insert(1, verdict.points)
        if any(points is None for points in drawn):
            reason = "no face found in one of three results"
    if reason or target.truth.points is None:
        return Verdict(
            scores, missing | dict.fromkeys(("jitter", "driver_jitter"), reason or ""), verdict.points
        )
    (_, before), (_, after) = target.beside
    true = np.array([before, target.truth.points, after])[:, : lm.MESH]
    unit = float(np.linalg.norm(true[1, lm.OUTER_EYE_LEFT] - true[1, lm.OUTER_EYE_RIGHT])) / 100
    results = np.array([points[: lm.MESH] for points in drawn if points is not None])
    scores["jitter"] = metrics.jitter(results) / unit
    scores["driver_jitter"] = metrics.jitter(true) / unit
    return Verdict(scores, missing, verdict.points)


def _points_of(prediction: Prediction | str, near: np.ndarray) -> np.ndarray | None:
    return None if isinstance(prediction, str) else find_points(prediction.image, near)


def _drawn(predictor: Predictor, goal: Goal) -> Prediction | str:
    """The method's picture, or why there is none that can be judged."""
    try:
        prediction = predictor.draw(goal)
    except Exception as error:
        return reason_of(error)
    if prediction is None:
        return "the method needs the target's face points"
    size = (goal.pose.camera.height, goal.pose.camera.width)
    if prediction.image.shape != (*size, 3) or prediction.alpha.shape != size:
        return f"the method's picture has the shape {prediction.image.shape}, not {(*size, 3)}"
    if not (np.isfinite(prediction.image).all() and np.isfinite(prediction.alpha).all()):
        return "the method's picture has values that are no numbers"
    return prediction

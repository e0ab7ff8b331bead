"""Runs: repeatable, resumable, honest about failures; and the report that is made of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.data.image import write_image
from headsplat.errors import HeadsplatError
from headsplat.evaluate import command, summary, trial
from headsplat.evaluate.cases import Case, Manifest
from headsplat.evaluate.judge import METRICS
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.predict import Method, Prediction, Predictor, prepare
from headsplat.evaluate.protocols import build
from headsplat.evaluate.report import markdown, write_report
from headsplat.evaluate.runner import Run, evaluate, load_run, scores_only
from headsplat.evaluate.stage import set_up
from headsplat.evaluate.truth import draw, random_person
from synthetic import make_avatar

pytest.importorskip("mediapipe")

NETWORKS = Networks()
METHODS = [Method.parse(text) for text in ("copy", "warp", "egg")]


def make_egg(frame: Any, name: str, **options: Any) -> Avatar:
    """Stands in for a reconstruction: a grey egg for everybody, which no detector takes for a face."""
    assert name == "egg" and not options
    egg = make_avatar(60, seed=2)
    return replace(egg, gaussians=replace(egg.gaussians, features=np.full_like(egg.gaussians.features, 0.5)))


def fail_to_make(frame: Any, name: str, **options: Any) -> Avatar:
    raise HeadsplatError("This method is out of order.")


def break_down(frame: Any, name: str, **options: Any) -> Avatar:
    return 1 / 0  # pyright: ignore


def make_stiff_egg(frame: Any, name: str, **options: Any) -> Avatar:
    """An egg without expressions: nobody can drive it."""
    return make_avatar(60, seed=2, expressions=("wink",))


def stop(frame: Any, name: str, **options: Any) -> Avatar:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two painted people with two pictures each, and a picture of nobody."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in ((5, "ann"), (6, "bob")):
        for label, expression, yaw in (("a", {}, 0.0), ("b", {"jawOpen": 0.5}, 0.2)):
            camera = Camera.orbit(yaw, target=(0, 0.04, 0), focal=3.4 * 300, width=300, height=300)
            write_image(folder / f"{name}_{label}.png", draw(random_person(seed), expression, camera).image)
    write_image(folder / "bob_c.png", np.full((200, 200, 3), 0.5))
    return folder


@pytest.fixture(scope="module")
def manifest(photos: Path) -> Manifest:
    """Ann both ways, Bob to his other picture, and nobody to Bob."""
    cases = {case.name: case for case in build("stills", photos).cases}
    wanted = ("ann a to b", "ann b to a", "bob a to b", "bob c to a")
    return Manifest("stills", tuple(cases[name] for name in wanted), {})


@pytest.fixture(scope="module")
def run(manifest: Manifest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(manifest, photos, METHODS, tmp_path_factory.mktemp("run"), make_egg, NETWORKS)


@pytest.fixture(scope="module")
def few(manifest: Manifest) -> Manifest:
    """A case of each person, and one that is refused."""
    return replace(manifest, cases=tuple(manifest.cases[i] for i in (0, 2, 3)))


@pytest.fixture(scope="module")
def lone(few: Manifest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same in a process of its own, as the command line does it."""
    folder = tmp_path_factory.mktemp("lone")
    return evaluate(few, photos, METHODS, folder, make_egg, NETWORKS, workers=1)


def test_results_are_complete(run: Run) -> None:
    assert [(r["case"], r["method"]) for r in run.results] == [
        (case.name, str(method)) for case in run.manifest.cases for method in METHODS
    ]
    for result in run.results:
        if result["case"] == "bob c to a":
            assert "face" in result["failed"] and not result["targets"]
        else:
            assert result["failed"] is None and len(result["targets"]) == 1
            assert (run.folder / "pictures" / f"{result['key']}.jpg").is_file()


def test_the_warp_follows_the_face(run: Run) -> None:
    copy, warp = (summary.cell(run, method, "akd").value for method in ("copy", "warp"))
    assert warp is not None and copy is not None and warp < 0.5 * copy
    metric = next(m for m in METRICS if m.name == "akd")
    assert summary.wins(run, "warp", "copy", metric) == (3, 3)


def test_a_stopped_run_goes_on(run: Run, manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    evaluate(manifest, photos, METHODS[:1], folder, make_egg, NETWORKS)
    kept = written(folder)
    with pytest.raises(KeyboardInterrupt):
        evaluate(manifest, photos, METHODS, folder, stop, NETWORKS)
    with pytest.raises(HeadsplatError, match="no finished"):
        load_run(folder)
    finished = evaluate(manifest, photos, METHODS, folder, make_egg, NETWORKS)
    # What was there was not made again, and the figures are those of the run that was never stopped.
    assert written(folder).items() >= kept.items()
    assert scores_only(finished) == scores_only(run)


def test_a_finished_run_only_reads(run: Run, manifest: Manifest, photos: Path) -> None:
    steps: list[tuple[int, int]] = []
    again = evaluate(
        manifest, photos, METHODS, run.folder, stop, NETWORKS, progress=lambda *step: steps.append(step)
    )
    assert again.results == run.results and steps == [(4, 4)]


def test_figures_do_not_depend_on_the_processes(
    run: Run, lone: Run, few: Manifest, photos: Path, tmp_path: Path
) -> None:
    parallel = evaluate(few, photos, METHODS, tmp_path / "run", make_egg, NETWORKS, workers=2)
    assert scores_only(parallel) == scores_only(lone)
    # With as many threads as there are, sums are taken in another order.
    names = {case.name for case in few.cases}
    same = [result for result in scores_only(run) if result["case"] in names]
    for result, expected in zip(scores_only(lone), same, strict=True):
        for got, wanted in zip(result["targets"], expected["targets"], strict=True):
            assert got["scores"] == pytest.approx(wanted["scores"], rel=1e-3)


def test_a_method_that_fails_is_listed(manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    small = Manifest("stills", manifest.cases[:1], {})
    failed = evaluate(small, photos, METHODS, tmp_path / "run", fail_to_make, NETWORKS)
    assert failed.results[2]["failed"] == "This method is out of order."
    assert summary.lost(failed, "egg") == (1, 1) and summary.lost(failed, "copy") == (0, 1)
    assert "out of order" in markdown([failed])


def test_an_error_nobody_expected_is_a_row_too(manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    small = Manifest("stills", manifest.cases[:2], {})
    run = evaluate(small, photos, METHODS, tmp_path / "run", break_down, NETWORKS)
    rows = [r for r in run.results if r["method"] == "egg"]
    assert len(rows) == 2 and all("ZeroDivisionError in test_runner.py" in r["failed"] for r in rows)
    assert summary.failed(run, "egg") == (2, 2) and summary.failed(run, "copy") == (0, 2)
    assert "| egg | – |" in markdown([run]) and "2/2 | 2/2 |" in markdown([run])


def test_a_picture_that_fails_is_lost_alone(manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    small = Manifest("stills", manifest.cases[:1], {})
    run = evaluate(small, photos, METHODS, tmp_path / "run", make_stiff_egg, NETWORKS)
    assert run.results[2]["failed"] is None and summary.lost(run, "egg") == (1, 1)
    assert "ARKit" in run.results[2]["targets"][0]["missing"]["all"]
    assert "ARKit" in summary.cell(run, "egg", "psnr").reason


@pytest.mark.parametrize(
    ("picture", "reason"),
    [(np.zeros((8, 8, 3)), "shape"), (np.full((512, 512, 3), np.nan), "no numbers"), (None, "face points")],
)
def test_pictures_that_cannot_be_judged_are_lost(
    picture: np.ndarray | None, reason: str, manifest: Manifest, photos: Path, lone: Run
) -> None:
    case = manifest.cases[0]
    stage = set_up(case, photos, lone.folder / "tracked")
    given = None if picture is None else Prediction(picture, picture[..., 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "prepare", lambda *_: Predictor(lambda goal: given, 0.0))
        answer = trial.answer(stage, METHODS[2], make_egg, NETWORKS, {})
    assert answer.failed is None and reason in answer.targets[0]["missing"]["all"]
    assert answer.targets[0]["scores"] == {}


def test_nobody_gains_by_failing(run: Run) -> None:
    results = [json.loads(json.dumps(r)) for r in run.results if r["method"] != "egg"]
    run = replace(run, methods=("copy", "warp"), results=tuple(results))
    assert summary.shared(run) is None
    results = [json.loads(json.dumps(result)) for result in results]
    for result in results:
        if result["method"] == "warp" and result["case"] == "ann a to b":
            del result["targets"][0]["scores"]["akd"]
    uneven = replace(run, results=tuple(results))
    fair = summary.shared(uneven)
    assert fair is not None
    assert [summary.cell(uneven, m, "akd").cases for m in ("copy", "warp")] == [3, 2]
    assert [summary.cell(fair, m, "akd").cases for m in ("copy", "warp")] == [2, 2]
    assert summary.cell(fair, "copy", "psnr") == summary.cell(run, "copy", "psnr")
    assert "pictures that every method has" in markdown([uneven])


def test_a_killed_run_goes_on_to_the_same_figures(
    lone: Run, few: Manifest, photos: Path, tmp_path: Path
) -> None:
    """Interrupted, then killed without warning, at random moments; no worker outlives what started it."""
    few.save(tmp_path / "manifest.json")
    program = (
        "import sys; from pathlib import Path; import test_runner as t\n"
        "t.evaluate(t.Manifest.load(Path(sys.argv[1])), Path(sys.argv[2]), t.METHODS, Path(sys.argv[3]),"
        " t.make_egg, t.NETWORKS, workers=1)"
    )
    folder = tmp_path / "run"
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", program, *map(str, (tmp_path / "manifest.json", photos, folder))]
    random, kept = np.random.default_rng(), {}
    for least, how in ((1, signal.SIGINT), (4, signal.SIGKILL)):
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, start_new_session=True)
        while len(written(folder)) < least and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.4))
        process.send_signal(how)
        process.wait(20)
        assert ends_soon(process.pid)
        kept |= written(folder)
    assert len(kept) >= 4
    finished = evaluate(few, photos, METHODS, folder, make_egg, NETWORKS, workers=1)
    assert written(folder).items() >= kept.items()
    assert scores_only(finished) == scores_only(lone)


def written(folder: Path) -> dict[Path, int]:
    """The results of a run, and when each was written."""
    files = (p for p in folder.glob("results/*.json") if not p.name.startswith("."))
    return {path: path.stat().st_mtime_ns for path in files}


def ends_soon(session: int) -> bool:
    """Whether no process of a session is left after some seconds."""
    for _ in range(500):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_several_sources_share_one_identity(manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    first, second = manifest.cases[0].sources[0], manifest.cases[1].sources[0]
    case = Case("ann from 2", "fewshot", (first, second), (second,))
    given: list[tuple[str, Any]] = []

    def note(frames: Any, name: str, **options: Any) -> Avatar:
        given.append((name, frames))
        return make_avatar(60, seed=2)

    methods = [Method.parse("lift:refine=0"), Method.parse("egg")]
    run = evaluate(Manifest("fewshot", (case,), {}), photos, methods, tmp_path / "run", note, NETWORKS)
    assert all(r["failed"] is None for r in run.results)
    (_, several), (_, one) = given
    assert [frame.source for frame in several] == [first.sha256, second.sha256]
    np.testing.assert_array_equal(several[0].shape, several[1].shape)
    # Methods for one photo are given the first, and the target is fitted to the same person.
    assert one is several[0]


def test_a_fit_to_the_picture_needs_the_same_person(manifest: Manifest, photos: Path, tmp_path: Path) -> None:
    case = manifest.cases[0]
    for protocol, fits in (("stills", True), ("cross", False)):
        stage = set_up(replace(case, protocol=protocol), photos, tmp_path)
        assert [target.goal.to_fit for target in stage.targets] == [fits]
    fitted = prepare(Method.parse("egg:drive=picture"), stage.sources, make_egg, {})
    pointed = prepare(Method.parse("egg"), stage.sources, make_egg, {})
    goal = stage.targets[0].goal
    drawn = [predictor.draw(goal) for predictor in (fitted, pointed)]
    assert drawn[0] is not None and drawn[1] is not None
    np.testing.assert_array_equal(drawn[0].image, drawn[1].image)


def test_a_folder_keeps_to_its_data(run: Run, photos: Path) -> None:
    other = build("stills", photos, limit=1)
    with pytest.raises(HeadsplatError, match="other data"):
        evaluate(other, photos, METHODS, run.folder, make_egg, NETWORKS)


def test_markdown_tables_hold_together(run: Run) -> None:
    text = markdown([run])
    widths, inside = set(), False
    for line in text.splitlines():
        if line.startswith("|"):
            widths.add(line.count("|"))
            inside = True
        elif inside:
            assert len(widths) == 1, line
            widths, inside = set(), False
    for method in METHODS:
        assert f"| {method} |" in text
    assert "ArcFace" in text and "failed: bob c to a" in text


def test_the_page_is_well_formed_and_whole(run: Run, tmp_path: Path) -> None:
    paths = write_report([run], tmp_path / "report")
    text = paths[1].read_text()

    class Reader(HTMLParser):
        """Follows the nesting of tags."""

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.pictures = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                self.pictures += 1
                assert (dict(attrs)["src"] or "").startswith("data:image/jpeg;base64,")
            elif tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    # Three cases with a strip of the truth and one per method.
    assert reader.pictures == 3 * (1 + len(METHODS))
    assert "http" not in text.replace("http-equiv", "")


def test_worst_cases_come_first(run: Run) -> None:
    ranked = summary.worst_first(run, "warp")
    assert ranked[0]["case"] == "bob c to a"
    scores = [summary.case_score(r, "face_psnr") for r in ranked[1:]]
    assert scores == sorted(scores, key=lambda v: v or 0)


def test_views_by_turn(run: Run) -> None:
    rows = dict(summary.by_yaw(run, "copy", "face_psnr"))
    assert sum(cell.cases for cell in rows.values()) == 3 and rows["90–135°"].value is None


def test_the_command_writes_everything(photos: Path, tmp_path: Path) -> None:
    run, text = command.run_protocol(
        "stills", photos, tmp_path / "run", make_egg, methods=("copy",), limit=1, workers=1
    )
    assert text == (tmp_path / "run" / "report.md").read_text()
    facts = command.as_json(run)
    assert json.loads(json.dumps(facts))["methods"]["copy"]["scores"]["psnr"] > 5
    again, _ = command.run_protocol(
        "stills",
        photos,
        tmp_path / "again",
        make_egg,
        methods=("copy",),
        workers=1,
        manifest=tmp_path / "run" / "manifest.json",
    )
    assert scores_only(again) == scores_only(run)
    paths, _ = command.report_runs([tmp_path / "run", tmp_path / "again"], tmp_path / "both")
    assert all(path.is_file() for path in paths)
    with pytest.raises(HeadsplatError, match="manifest of stills"):
        command.run_protocol(
            "self", photos, tmp_path / "x", make_egg, manifest=tmp_path / "run" / "manifest.json"
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stills"], "--data"),
        (["stills", "--data", "nowhere"], "no folder nowhere"),
        (["self", "--data", "."], "nothing for `self`"),
        (["report"], "Name the folders"),
        (["report", "nowhere"], "no finished evaluation"),
        (["stills", "runs", "--data", "."], "Only `evaluate report`"),
        (["stills", "--data", ".", "--method", "lift:steps=2"], "steps=2"),
        (["stills", "--data", ".", "--workers", "-1"], "workers"),
        (["stills", "--data", ".", "--manifest", "none.json"], "no manifest"),
    ],
)
def test_the_verb_says_what_is_wrong(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from headsplat.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *words])
    assert end.value.code == 2 and sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

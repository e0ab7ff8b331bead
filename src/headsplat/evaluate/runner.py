"""Run a protocol: cases in parallel processes, each answer kept by its content, so that runs resume."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Case, Manifest, Shot, content_key, file_hash
from headsplat.evaluate.dependencies import code_hash
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.predict import BASELINES, FILES, Made, Maker, Method
from headsplat.files import writing

if TYPE_CHECKING:
    from headsplat.evaluate.stage import Stage
    from headsplat.evaluate.trial import Answer

_JUDGING = "headsplat.evaluate.trial"
TILE = 256
"""Side of a picture in a strip, pixels."""
_THREADS = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS HEADSPLAT_THREADS".split()


@dataclass(frozen=True)
class Run:
    """A finished run in its folder.

    Attributes:
        folder: holds manifest.json, run.json, results/ and pictures/.
        manifest: what was evaluated.
        methods: as written by the user, in that order.
        results: one JSON object per case and method, in the order of the manifest, methods innermost.
        code: SHA-256 of the code that tracked and judged.
    """

    folder: Path
    manifest: Manifest
    methods: tuple[str, ...]
    results: tuple[dict[str, Any], ...]
    code: str


def evaluate(
    manifest: Manifest,
    data: Path,
    methods: Sequence[Method],
    folder: Path,
    make: Maker,
    networks: Networks,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Evaluate methods on all cases; what the folder already holds for the same content is not done again.

    Args:
        manifest: the cases; its files are checked against their hashes.
        data: folder that its files are relative to.
        methods: what to evaluate.
        folder: of the run; kept if it exists.
        make: makes avatars; a function that other processes can import by name.
        networks: for LPIPS and CSIM.
        workers: processes of one thread each, whose figures do not depend on how many they are; 0 works in
            this process, with the threads that it has.
        progress: called with the number of cases done and their total.

    Raises:
        HeadsplatError: the files are not those of the manifest, or the folder holds another evaluation.
    """
    manifest.check_files(data)
    _claim(folder, manifest)
    tell = progress or (lambda done, total: None)
    keys = [[(m, _key(case, m, networks, make)) for m in methods] for case in manifest.cases]
    missing = [[(m, key) for m, key in row if not _result_path(folder, key).exists()] for row in keys]
    # Cases with the same sources follow each other in one process, which makes their avatars once.
    groups: dict[tuple[Shot, ...], list[tuple[Case, list[tuple[Method, str]]]]] = {}
    for case, row in zip(manifest.cases, missing, strict=True):
        if row:
            groups.setdefault(case.sources, []).append((case, row))
    total = len(manifest.cases)
    done = total - sum(map(len, groups.values()))
    tell(done, total)
    tasks = [(group, data, folder, make, networks) for group in groups.values()]
    for finished in _in_parallel(tasks, min(workers, len(tasks))):
        done += finished
        tell(done, total)
    described = {
        "protocol": manifest.protocol,
        "methods": [str(m) for m in methods],
        "networks": networks.identity(),
        "code": code_hash(_JUDGING),
        "results": [key for row in keys for _, key in row],
    }
    with writing(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n")
    return load_run(folder)


def _in_parallel(tasks: Sequence[tuple[Any, ...]], workers: int) -> Iterator[int]:
    """Work off the tasks; yields after each the number of cases that it held."""
    if workers == 0:
        for task in tasks:
            yield _work(*task)
        return
    others = set(active_children())
    # Fresh processes: MediaPipe and thread pools do not survive a fork.
    with _one_thread(), ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(_work, *task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise HeadsplatError(
                "A worker process died, perhaps for want of memory; run the same again with fewer --workers."
            ) from error
        except BaseException:
            # What a worker was at is done again by the next run; waiting for it could take a minute.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def _end_with_parent() -> None:
    """Make this process end when the one that started it is killed, instead of waiting for it for ever."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def load_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        HeadsplatError: not one, or not finished.
    """
    try:
        described = json.loads((folder / "run.json").read_text())
        keys, code = described["results"], str(described["code"])
        results = tuple(json.loads(_result_path(folder, key).read_text()) for key in keys)
    except (OSError, KeyError, ValueError) as error:
        raise HeadsplatError(
            f"{folder} holds no finished evaluation; let `headsplat evaluate` finish it."
        ) from error
    return Run(folder, Manifest.load(folder / "manifest.json"), tuple(described["methods"]), results, code)


def scores_only(run: Run) -> list[dict[str, Any]]:
    """The results without what may differ between two runs: times, memory and keys of files."""
    return [
        {key: value for key, value in result.items() if key not in ("cost", "key", "truth")}
        for result in run.results
    ]


def _work(
    group: Sequence[tuple[Case, Sequence[tuple[Method, str]]]],
    data: Path,
    folder: Path,
    make: Maker,
    networks: Networks,
) -> int:
    """Evaluate some methods on cases with the same sources; returns the number of cases."""
    from headsplat.evaluate.trial import answers

    made: Made = {}
    for case, methods in group:
        given, stage = answers(case, data, folder / "tracked", [m for m, _ in methods], make, networks, made)
        _write_results(folder, case, stage, [key for _, key in methods], given)
    return len(group)


def _write_results(
    folder: Path, case: Case, stage: Stage | None, keys: Sequence[str], given: Sequence[Answer]
) -> None:
    """Write the results of a case by key, the picture before the figures."""
    shown = content_key(asdict(case))
    if stage is not None:
        source = stage.sources[0].image
        _write_strip(folder / "pictures" / f"{shown}.jpg", [source, *(t.shown for t in stage.targets)])
    for key, answer in zip(keys, given, strict=True):
        if answer.pictures:
            _write_strip(folder / "pictures" / f"{key}.jpg", answer.pictures)
        result = {
            "case": case.name,
            "method": answer.method,
            "targets": answer.targets,
            "failed": answer.failed,
            "skipped": {} if stage is None else stage.skipped,
            "cost": answer.cost,
            "key": key,
            "truth": shown,
        }
        with writing(_result_path(folder, key)) as temporary:
            temporary.write_text(json.dumps(result) + "\n")


def _write_strip(path: Path, pictures: Sequence[np.ndarray | None]) -> None:
    """Pictures side by side; a grey tile where there is none."""
    import cv2

    from headsplat.data.image import write_image

    empty = np.full((TILE, TILE, 3), 0.2, np.float32)
    tiles = [
        empty
        if picture is None
        else cv2.resize(picture.astype(np.float32), (TILE, TILE), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    with writing(path) as temporary:
        write_image(temporary, np.concatenate(tiles, 1), quality=88)


def _key(case: Case, method: Method, networks: Networks, make: Maker) -> str:
    """What a result depends on: the case, the files, and all code that tracks, judges and makes avatars."""
    named = {option: method.file(option, case.sources[0].clip) for option in FILES}
    files = {option: _needed_file(path) for option, path in named.items() if path is not None}
    code = [code_hash(_JUDGING)]
    if method.name not in BASELINES:
        makers = (make.__module__, f"headsplat.methods.{method.name}")
        code += [code_hash(*makers, method=method.name), file_hash(Path(inspect.getfile(make)))]
    return content_key(asdict(case), str(method), files, networks.identity(), code)


def _needed_file(path: Path) -> str:
    """SHA-256 of a file that a method needs; a folder counts by its name only."""
    return file_hash(path) if path.is_file() else f"folder {path}"


def _result_path(folder: Path, key: str) -> Path:
    return folder / "results" / f"{key}.json"


def _claim(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, and refuse the folder of another data set: its tables would mix."""
    path = folder / "manifest.json"
    if path.exists() and Manifest.load(path) != manifest:
        raise HeadsplatError(
            f"{folder} holds an evaluation of other data or settings; give another folder with -o."
        )
    if not path.exists():
        manifest.save(path)
    # A run that is stopped must not look finished.
    (folder / "run.json").unlink(missing_ok=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within it, processes that are started use one thread each: they are many."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

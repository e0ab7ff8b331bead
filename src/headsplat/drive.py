"""Find the motion that a name or a file stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headsplat.errors import HeadsplatError
from headsplat.motion import Motion
from headsplat.takes import TAKES, take


def read_motion(source: str | Path, progress: Callable[[str, float], None] | None = None) -> Motion:
    """The motion of a built-in take, a recording, or a video of a face.

    Args:
        source: a key of `TAKES`, a Live Link Face `.csv`, a LAM `.json`, a recording made by `headsplat
            track`, a folder of FLAME parameters tracked with VHAP or with GAGAvatar's tracker, or a video,
            which is tracked.
        progress: called with the name of a step and the fraction done, while a video is tracked.

    Raises:
        HeadsplatError: it is none of these, or cannot be read.
    """
    name, suffix = str(source), Path(source).suffix.lower()
    if name in TAKES:
        return take(name)
    if suffix == ".csv":
        from headsplat.data.arkit_csv import read_arkit_csv

        return read_arkit_csv(source)
    if suffix == ".json":
        from headsplat.data.lam_json import read_lam_json

        return read_lam_json(source)
    if (Path(source) / "headsplat.json").is_file():
        from headsplat.data.datasets import read_dataset

        return read_dataset(source).motion()
    if Path(source).is_dir():
        from headsplat.data.datasets import gagavatar, layout_of

        if layout_of(Path(source)) == "gagavatar":
            return gagavatar.moving_head(gagavatar.read_gagavatar(source))
        from headsplat.data.flame_folder import read_flame_folder

        return read_flame_folder(source).motion
    from headsplat.data.video import is_video

    if is_video(source):
        from headsplat.track.video import track_video

        return track_video(source, progress=progress)
    if suffix in (".wav", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".flac"):
        raise HeadsplatError(
            f"{name} is a sound, and moves no face here; drop it on the page that `headsplat view` "
            "opens, or give it with --audio beside a motion."
        )
    raise HeadsplatError(
        f"There is no motion {name!r}; give {', '.join(TAKES)}, a Live Link Face .csv, a motion .json, "
        "a folder tracked with VHAP, or a video."
    )

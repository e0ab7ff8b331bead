"""The layouts in which the field stores tracked recordings: readers, writers and a check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headsplat.data.dataset import Dataset
from headsplat.errors import HeadsplatError

if TYPE_CHECKING:
    from headsplat.head.model import HeadModel

SPLIT_FILES = ("transforms.json", "transforms_train.json", "transforms_val.json", "transforms_test.json")


def read_dataset(
    folder: str | os.PathLike[str], *, flame: HeadModel | str | os.PathLike[str] | None = None
) -> Dataset:
    """Read a tracked recording, whatever wrote it; docs/datasets.md lists the layouts.

    Args:
        folder: the recording, or its index file.
        flame: FLAME, for the exact places of its joints where the layout needs them.

    Raises:
        HeadsplatError: the layout is not known, or no frame of it can be used; the reason is said.
    """
    root = Path(folder)
    if not root.exists():
        raise HeadsplatError(f"There is no folder {root}; check the name.")
    root = root.parent if root.is_file() else root
    layout = layout_of(root)
    if layout == "headsplat":
        from headsplat.data.datasets.native import read_native

        return read_native(root)
    if layout == "vhap":
        from headsplat.data.datasets.vhap import read_vhap

        return read_vhap(root, flame=flame)
    if layout == "insta":
        from headsplat.data.datasets.insta import read_insta

        return read_insta(root)
    if layout == "checkpoints":
        from headsplat.data.datasets.checkpoints import read_checkpoints

        return read_checkpoints(root)
    if layout == "imavatar":
        from headsplat.data.datasets.imavatar import read_imavatar

        return read_imavatar(_only_video(root), flame=flame)
    if layout in ("nerfblendshape", "adnerf"):
        from headsplat.data.datasets import blendshape

        read = blendshape.read_adnerf if layout == "adnerf" else blendshape.read_nerfblendshape
        return read(root)
    if layout == "gagavatar":
        from headsplat.data.datasets.gagavatar import read_gagavatar

        return read_gagavatar(root)
    if layout == "cap4d":
        from headsplat.data.datasets.cap4d import read_cap4d

        return read_cap4d(root, flame=flame)
    if layout == "nersemble":
        from headsplat.data.datasets.nersemble import read_nersemble

        return read_nersemble(root)
    raise HeadsplatError(
        f"{root} is not a tracked recording that headsplat knows (docs/datasets.md lists them); "
        "`headsplat track VIDEO -o FOLDER` makes one."
    )


def layout_of(root: Path) -> str | None:
    """Which reader a folder is for, by the files in it; None for none."""
    from headsplat.data.datasets.nersemble import find_cameras

    if (root / "headsplat.json").is_file():
        return "headsplat"
    if (root / "fit.npz").is_file():
        return "cap4d"
    if (root / "optim.pkl").is_file() or (root / "smoothed.pkl").is_file():
        return "gagavatar"
    index = next((root / name for name in SPLIT_FILES if (root / name).is_file()), None)
    if index is not None:
        return _layout_of_transforms(index)
    if any((root / "checkpoint").glob("*.frame")):
        return "checkpoints"
    if (root / "flame_params.json").is_file() or any(root.glob("*/*/flame_params.json")):
        return "imavatar"
    return "nersemble" if find_cameras(root) else None


def _layout_of_transforms(index: Path) -> str | None:
    """The same by what the frames of a transforms*.json have."""
    from headsplat.data.datasets.untrusted import read_json

    content = read_json(index)
    frames = content.get("frames")
    first: Any = frames[0] if isinstance(frames, list) and frames else {}
    keys = set(first) if isinstance(first, dict) else set()
    if "flame_param_path" in keys or (index.parent / "flame_param").is_dir():
        return "vhap"
    if keys & {"mesh_path", "exp_path", "seg_mask_path"}:
        return "insta"
    if "exp_ori" in keys:
        return "nerfblendshape"
    if "aud_id" in keys or "focal_len" in content:
        return "adnerf"
    return None


def _only_video(root: Path) -> Path:
    """The one video of an IMavatar subject."""
    if (root / "flame_params.json").is_file():
        return root
    videos = sorted(path.parent for path in root.glob("*/*/flame_params.json"))
    if len(videos) > 1:
        names = ", ".join(str(video.relative_to(root)) for video in videos[:5])
        raise HeadsplatError(f"{root} holds {len(videos)} videos; give one of {names}.")
    return videos[0]

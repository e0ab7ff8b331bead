"""From the command line: several photos into one avatar, and an avatar refined with another photo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headsplat.avatar_file import load_avatar
from headsplat.cli import main
from headsplat.data.image import write_image


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The same face twice, the second darker and from a mirror, and a picture without a face."""
    from skimage.data import astronaut

    folder = tmp_path_factory.mktemp("photos")
    picture = astronaut()[:320, 80:400].astype(np.float32) / 255
    paths = (folder / "a.png", folder / "b.png", folder / "wall.png")
    for path, pixels in zip(paths, (picture, picture[:, ::-1] * 0.8, np.full((90, 90, 3), 0.5)), strict=True):
        write_image(path, np.ascontiguousarray(pixels, np.float32))
    return paths


def test_two_photos_make_one_avatar_and_a_third_refines_it(
    photos: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, wall = photos
    made, better = tmp_path / "a.avatar", tmp_path / "b.avatar"
    settings = ("--gaussians", "5k", "--refine", 4, "--json")
    code, out, _ = run(capsys, "create", first, second, "-o", made, *settings)
    facts = json.loads(out.splitlines()[-1])
    assert code == 0 and facts["photos"] == 2 and len(facts["photo_psnr"]) == 2
    assert len(load_avatar(made).info["poses"]) == 2
    code, out, _ = run(capsys, "refine", made, first, "-o", better, "--steps", 8, "--json")
    facts = json.loads(out.splitlines()[-1])
    assert code == 0 and facts["psnr_after"][0] > facts["psnr_before"][0]
    assert facts["gaussians"] == len(load_avatar(better)) and facts["seen_after"] >= facts["seen_before"]
    code, _, err = run(capsys, "refine", made, wall, "-o", tmp_path / "c.avatar")
    assert code == 2 and "no face" in err and not (tmp_path / "c.avatar").exists()


def test_mistakes_are_one_sentence(
    photos: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, wall = photos
    out = tmp_path / "x.avatar"
    for words, hint in (
        (("create", wall, first, "-o", out), "wall.png cannot be used"),
        (("create", "-o", out), "name at least one"),
        (("create", first, first, "-o", out, "--method", "lam", "--weights", "w.safetensors"), "one photo"),
        (("create", tmp_path, "-o", out), "not a tracked recording"),
        (("create", first, "-o", out, "--views", 0), "make no sense"),
        (("refine", tmp_path / "none.avatar", first, "-o", out), "none.avatar"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2 and hint in err, words
        assert len(err.strip().splitlines()) == 1 and not out.exists()

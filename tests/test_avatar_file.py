"""The avatar file: what comes back, what it weighs, and what a reader refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.errors import HeadsplatError
from headsplat.tensor_file import read_tensors, write_tensors
from synthetic import make_avatar

NAMES = tuple(f"e{i}" for i in range(7))

random_avatars = st.builds(
    make_avatar,
    st.integers(1, 70),
    seed=st.integers(0, 2**31),
    expressions=st.sampled_from([(), ("jawOpen",), NAMES]),
    channels=st.sampled_from([1, 3, 5, 32]),
    frames=st.booleans(),
    appearance=st.booleans(),
    moved=st.sampled_from([0.0, 0.2, 1.0]),
)


@given(random_avatars)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saving_what_was_loaded_repeats_the_bytes(tmp_path: Path, avatar: Avatar) -> None:
    first, second = tmp_path / "first.avatar", tmp_path / "second.avatar"
    save_avatar(avatar, first)
    save_avatar(load_avatar(first), second)
    assert first.read_bytes() == second.read_bytes()


@given(random_avatars)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loaded_equals_saved_within_the_rounding(tmp_path: Path, avatar: Avatar) -> None:
    path = tmp_path / "a.avatar"
    save_avatar(avatar, path)
    back = load_avatar(path)
    extent = np.ptp(avatar.gaussians.means, axis=0).max() + 1e-6
    np.testing.assert_allclose(back.gaussians.means, avatar.gaussians.means, atol=extent / 65535)
    np.testing.assert_allclose(back.gaussians.quats, avatar.gaussians.quats, atol=1.01 * 0.5 / 32767)
    np.testing.assert_allclose(back.gaussians.scales, avatar.gaussians.scales, rtol=1e-3)
    np.testing.assert_allclose(back.gaussians.opacities, avatar.gaussians.opacities, atol=0.501 / 255)
    np.testing.assert_allclose(back.gaussians.features, avatar.gaussians.features, atol=0.501 / 255)
    np.testing.assert_allclose(back.seen, avatar.seen, atol=0.501 / 255)
    np.testing.assert_allclose(back.skin_weights, avatar.skin_weights, atol=1.001 / 255)
    np.testing.assert_allclose(back.skin_weights.sum(1), 1, atol=1e-6)
    for table in ("expression_means", "expression_frames", "expression_appearance"):
        saved, loaded = getattr(avatar, table), getattr(back, table)
        assert (saved is None) == (loaded is None)
        if saved is not None:
            np.testing.assert_array_equal(loaded.starts, saved.starts)
            np.testing.assert_array_equal(loaded.index, saved.index)
            np.testing.assert_allclose(loaded.values, saved.values, rtol=1e-3, atol=1e-7)
    same = ("joints", "expressions", "method", "source", "info", "view_height")
    assert all(getattr(back, name) == getattr(avatar, name) for name in same)
    np.testing.assert_array_equal(back.parents, avatar.parents)
    np.testing.assert_array_equal(back.joint_rest, avatar.joint_rest)


def test_the_safetensors_library_reads_it(tmp_path: Path, avatar: Avatar) -> None:
    from safetensors import safe_open

    path = tmp_path / "a.avatar"
    save_avatar(avatar, path)
    ours, metadata = read_tensors(path)
    with safe_open(path, "numpy") as theirs:
        assert theirs.metadata() == metadata
        assert set(theirs.keys()) == set(ours)
        for name, tensor in ours.items():
            np.testing.assert_array_equal(theirs.get_tensor(name), tensor)


def test_features_beyond_colours_survive(tmp_path: Path, avatar: Avatar) -> None:
    strange = dataclasses.replace(avatar.gaussians, features=avatar.gaussians.features * 3 - 1)
    save_avatar(dataclasses.replace(avatar, gaussians=strange), tmp_path / "a.avatar")
    back = load_avatar(tmp_path / "a.avatar").gaussians.features
    np.testing.assert_allclose(back, strange.features, rtol=1e-3, atol=1e-3)


def test_an_animated_frame_survives(tmp_path: Path, avatar: Avatar) -> None:
    pose: dict[str, Any] = {
        "expression": {"jawOpen": 0.8, "mouthSmileLeft": 1.0},
        "rotations": {"head": (0.1, 0.3, -0.2), "left_eye": (0, 0.2, 0)},
    }
    save_avatar(avatar, tmp_path / "a.avatar")
    before, after = avatar.animate(**pose), load_avatar(tmp_path / "a.avatar").animate(**pose)
    np.testing.assert_allclose(after.means, before.means, atol=5e-4)


@pytest.mark.parametrize(("count", "limit_mb"), [(20_000, 3), (80_000, 10)])
def test_size_of_a_file(tmp_path: Path, count: int, limit_mb: float) -> None:
    avatar = make_avatar(count, frames=False, appearance=False, moved=0.12)
    save_avatar(avatar, tmp_path / "a.avatar")
    assert (tmp_path / "a.avatar").stat().st_size < limit_mb * 1e6


def test_failed_save_leaves_nothing(tmp_path: Path, avatar: Avatar) -> None:
    means = avatar.gaussians.means.copy()
    means[3, 1] = np.nan
    bad = dataclasses.replace(avatar, gaussians=dataclasses.replace(avatar.gaussians, means=means))
    with pytest.raises(HeadsplatError, match="not finite"):
        save_avatar(bad, tmp_path / "a.avatar")
    huge = SparseOffsets(
        avatar.expression_means.starts, avatar.expression_means.index, avatar.expression_means.values * 1e6
    )
    with pytest.raises(HeadsplatError, match="too large"):
        save_avatar(dataclasses.replace(avatar, expression_means=huge), tmp_path / "a.avatar")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "index", "value"),
    [
        ("skin_weights", (0, 0), -1),
        ("skin_weights", (0, 0), np.nan),
        ("skin_weights", 0, 0),
        ("skin_joints", (0, 0), 99),
    ],
)
def test_a_skin_that_is_none_is_not_written(tmp_path: Path, field: str, index: Any, value: float) -> None:
    avatar = make_avatar(9)
    skin = getattr(avatar, field).copy()
    skin[index] = value
    with pytest.raises(HeadsplatError, match="skin"):
        save_avatar(dataclasses.replace(avatar, **{field: skin}), tmp_path / "a.avatar")
    assert not list(tmp_path.iterdir())


Tensors = dict[str, np.ndarray]


def _set(name: str, index: Any, value: Any) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, metadata: dict[str, str]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][index] = value

    return change


def _meta(key: str, value: str | None) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, metadata: dict[str, str]) -> None:
        metadata.pop(key) if value is None else metadata.update({key: value})

    return change


def _replace(
    name: str, make: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, metadata: dict[str, str]) -> None:
        tensors[name] = make(tensors[name])

    return change


DAMAGE: dict[str, tuple[Callable[[Tensors, dict[str, str]], Any], str]] = {
    "foreign": (_meta("format", None), "not an avatar"),
    "other format": (_meta("format", "pt"), "not an avatar"),
    "newer": (_meta("version", "2"), "pip install --upgrade"),
    "no version": (_meta("version", None), "version"),
    "silly version": (_meta("version", "²"), "version"),
    "no joints": (_meta("joints", None), "joints"),
    "joints not a list": (_meta("joints", '{"a": 1}'), "joints"),
    "joints repeated": (_meta("joints", '["a", "a"]'), "joints"),
    "fewer joints": (_meta("joints", '["root"]'), "joints.rest"),
    "parents not JSON": (_meta("parents", "[-1, 0"), "parents"),
    "parent after child": (_meta("parents", "[-1, 2, 1, 2, 2, 2]"), "parents"),
    "parent below -1": (_meta("parents", "[-1, -2, 1, 2, 2, 2]"), "parents"),
    "too few parents": (_meta("parents", "[-1]"), "parent"),
    "fewer expressions": (_meta("expressions", '["jawOpen"]'), "expression.means.mask"),
    "deep JSON": (_meta("info", "[" * 100_000), "info"),
    "no view": (_meta("view", "{}"), "view"),
    "view at infinity": (_meta("view", '{"target": [0, Infinity, 0], "height": 1}'), "view"),
    "view of no height": (_meta("view", '{"target": [0, 0, 0], "height": 0}'), "view"),
    "view far away": (_meta("view", '{"target": [0, 0, 1%s], "height": 1}' % ("0" * 400)), "view"),
    "view of a word": (_meta("view", '{"target": [0, 0, "up"], "height": 1}'), "view"),
    "no scales": (lambda t, m: t.pop("scales"), "scales is missing"),
    "no features": (lambda t, m: t.pop("features"), "features"),
    "no mask": (lambda t, m: t.pop("expression.means.mask"), "mask is missing"),
    "half a table": (lambda t, m: t.pop("expression.frames.values"), "frames.values is missing"),
    "float means": (_replace("means", lambda a: a.astype(np.float32)), "means is float32"),
    "flat means": (_replace("means", lambda a: a.reshape(-1)), "means is"),
    "scalar means": (_replace("means", lambda a: np.array(3, np.uint16)), "means is missing"),
    "no Gaussians": (_replace("means", lambda a: a[:0]), "not"),
    "one quaternion short": (_replace("quats", lambda a: a[:-1]), "quats is"),
    "zero quaternion": (_set("quats", 5, 0), "unit quaternion"),
    "NaN scale": (_set("scales", (3, 1), np.nan), "scales holds"),
    "infinite offset": (_set("expression.means.values", (3, 1), np.inf), "not finite"),
    "NaN joint": (_set("joints.rest", 0, np.nan), "not finite"),
    "negative scale": (_set("scales", (0, 0), -1), "negative"),
    "bounds swapped": (_replace("means.bounds", lambda a: a[::-1]), "bounds"),
    "unknown joint": (_set("skin.joints", (0, 1), 6), "joint that does not exist"),
    "weights short of one": (_set("skin.weights", (0, 0), 0), "sum to one"),
    "one bit too many": (_replace("expression.means.mask", lambda a: a | 1), "expression.means.values"),
    "bits past the end": (_set("expression.means.mask", (0, -1), 255), "do not exist"),
    "values short": (_replace("expression.means.values", lambda a: a[1:]), "expression.means.values"),
    "features of ints": (_replace("features", lambda a: a.astype(np.int32)), "features"),
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensors, dict[str, str]]:
    path = tmp_path_factory.mktemp("good") / "a.avatar"
    save_avatar(make_avatar(101, seed=3), path)
    return read_tensors(path)


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_in_one_sentence(
    tmp_path: Path, parts: tuple[Tensors, dict[str, str]], case: str
) -> None:
    damage, message = DAMAGE[case]
    tensors, metadata = dict(parts[0]), dict(parts[1])
    damage(tensors, metadata)
    write_tensors(tmp_path / "bad.avatar", tensors, metadata)
    with pytest.raises(HeadsplatError, match=message) as caught:
        load_avatar(tmp_path / "bad.avatar")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_checkpoint_of_half_numbers_is_told_from_damage(tmp_path: Path) -> None:
    header = b'{"weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(HeadsplatError, match="'BF16', which no avatar has"):
        load_avatar(tmp_path / "model.safetensors")


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, overwritten or invented bytes give an avatar or a sentence, never another exception."""
    path = tmp_path / "a.avatar"
    save_avatar(make_avatar(9, expressions=("jawOpen",)), path)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "overwrite", "header", "noise"]))
    if kind == "cut":
        whole = whole[:at]
    elif kind == "overwrite":
        whole[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    elif kind == "header":
        header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
        entry = header[data.draw(st.sampled_from(sorted(header)))]
        values = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.integers(), max_size=3))
        entry[data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "format"]))] = data.draw(values)
        text = json.dumps(header).encode()
        whole = bytearray(len(text).to_bytes(8, "little") + text)
    else:
        whole = bytearray(data.draw(st.binary(max_size=64)))
    path.write_bytes(whole)
    try:
        load_avatar(path)
    except HeadsplatError as error:
        assert str(path) in str(error)

"""FLAME files of the true layout, old and new, and files that try to do more than hold numbers."""

import io
import os
import pickle
import pickletools
import sys
import types
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse

from headsplat.errors import HeadsplatError
from headsplat.head.flame import load_flame
from headsplat.head.flame_file import read_flame_arrays
from headsplat.head.subdivide import subdivide

SHAPES, EXPRESSIONS = 300, 100


@pytest.fixture(scope="module")
def arrays():
    """A little head with FLAME's keys, shapes and joint tree: 60 vertices instead of 5023."""
    rng = np.random.default_rng(0)
    count = 60
    weights = rng.uniform(size=(count, 5)) * [1, 1, 1, 0.1, 0.1]
    weights[40:50], weights[50:] = np.eye(5)[3], np.eye(5)[4]
    regressor = rng.uniform(size=(5, count)) * (rng.random((5, count)) < 0.2)
    faces = np.array([(k, k + 1, k + 2) for k in range(count - 2)] + [(0, 1, count - 1)], np.uint32)
    return {
        "v_template": rng.normal(size=(count, 3)) * 0.1,
        "shapedirs": rng.normal(size=(count, 3, SHAPES + EXPRESSIONS)) * 1e-3,
        "posedirs": rng.normal(size=(count, 3, 36)) * 1e-3,
        "J_regressor": regressor / np.maximum(regressor.sum(1, keepdims=True), 1e-9),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": faces,
    }


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with byte strings as Python 2 wrote them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data):
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes


def foreign(monkeypatch, module, name):
    """A class that pickles as `module.name`, as if that library were installed."""
    kind = type(name, (), {"__module__": module})
    for k in range(len(module.split("."))):
        part = ".".join(module.split(".")[: k + 1])
        if part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setattr(sys.modules[module], name, kind, raising=False)
    return kind


def official(monkeypatch, arrays):
    """The content of an official pickle: chumpy objects, an old SciPy matrix, strings that nobody needs."""
    chumpy = foreign(monkeypatch, "chumpy.ch", "Ch")
    csc = foreign(monkeypatch, "scipy.sparse.csc", "csc_matrix")
    content = dict(arrays)
    for key in ("v_template", "shapedirs", "posedirs"):
        wrapped = chumpy()
        wrapped.__dict__.update(x=arrays[key], _dirty_vars=None, _itr=None)
        content[key] = wrapped
    matrix = sparse.csc_matrix(arrays["J_regressor"])
    old = csc()
    old.__dict__.update(
        data=matrix.data,
        indices=matrix.indices,
        indptr=matrix.indptr,
        _shape=(5, 60),
        format=b"csc",
        maxprint=50,
    )
    content["J_regressor"] = old
    content["kintree_table"] = np.asfortranarray(arrays["kintree_table"])
    content |= {
        "bs_style": b"lbs",
        "bs_type": "lrotmin",
        "names": np.array(["a", None], object),
        "n": np.float64(2),
    }
    return content


def write_official(monkeypatch, arrays, path, pickler=Python2Pickler):
    stream = io.BytesIO()
    with monkeypatch.context() as patch:
        pickler(stream, protocol=2).dump(official(patch, arrays))
    path.write_bytes(stream.getvalue())
    return path


@pytest.fixture
def flame_path(monkeypatch, arrays, tmp_path):
    return write_official(monkeypatch, arrays, tmp_path / "generic_model.pkl")


def check_model(model, arrays):
    basis = arrays["shapedirs"].transpose(2, 0, 1)
    np.testing.assert_allclose(model.template, arrays["v_template"], rtol=1e-6)
    np.testing.assert_allclose(model.shape_basis, basis[:SHAPES], rtol=1e-6)
    np.testing.assert_allclose(model.expression_basis, basis[SHAPES:], rtol=1e-6)
    np.testing.assert_allclose(
        model.joint_template, arrays["J_regressor"] @ arrays["v_template"], rtol=1e-5, atol=1e-7
    )
    assert model.parents.tolist() == [-1, 0, 1, 1, 1]
    assert model.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert np.array_equal(model.faces, arrays["f"])
    assert model.mirror is None and model.landmark_faces is None


def test_an_official_looking_python_2_pickle_is_read(flame_path, arrays):
    names = {
        argument
        for _, argument, _ in pickletools.genops(flame_path.read_bytes())
        if isinstance(argument, str)
    }
    assert {"chumpy.ch Ch", "scipy.sparse.csc csc_matrix"} <= names  # the test file is what it claims to be
    check_model(load_flame(flame_path), arrays)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_modern_pickles_with_real_scipy_matrices_are_read(tmp_path, arrays, protocol):
    for kind in (sparse.csc_matrix, sparse.csr_matrix, np.asfortranarray):
        path = tmp_path / "flame2023.pkl"
        path.write_bytes(
            pickle.dumps({**arrays, "J_regressor": kind(arrays["J_regressor"])}, protocol=protocol)
        )
        check_model(load_flame(path), arrays)


def test_an_npz_is_read(tmp_path, arrays):
    np.savez(tmp_path / "flame.npz", **arrays)
    check_model(load_flame(tmp_path / "flame.npz"), arrays)


def test_posing_follows_the_papers_formula(flame_path, arrays):
    rng = np.random.default_rng(1)
    betas, psi = rng.normal(size=SHAPES), rng.normal(size=EXPRESSIONS)
    rotations = 0.4 * rng.normal(size=(5, 3))
    posed = load_flame(flame_path).with_shape(betas).with_pose(psi, rotations)

    shaped = arrays["v_template"] + arrays["shapedirs"] @ np.concatenate([betas, psi])
    joints = arrays["J_regressor"] @ shaped
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_rotvec(rotations).as_matrix()
    shaped = shaped + arrays["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    world = np.zeros((5, 4, 4))
    for joint, parent in enumerate([-1, 0, 1, 1, 1]):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world[joint] = world[parent] @ local if joint else local
    expected = np.zeros_like(shaped)
    for v, point in enumerate(shaped):
        for joint in range(5):
            carried = world[joint][:3, :3] @ (point - joints[joint]) + world[joint][:3, 3]
            expected[v] += arrays["weights"][v, joint] * carried
    np.testing.assert_allclose(posed.vertices, expected, atol=2e-6)


def test_zero_pose_is_the_identity_and_eyes_are_found_by_their_weights(flame_path):
    model = load_flame(flame_path)
    np.testing.assert_allclose(model.with_shape().with_pose().vertices, model.template, atol=1e-6)
    assert set(model.vertices_of("left_eye")) == set(range(40, 50))
    assert set(model.vertices_of("right_eye")) == set(range(50, 60))


def test_subdivision_works_for_flame_too(flame_path):
    model = load_flame(flame_path)
    fine = subdivide(model)
    edges = {tuple(sorted((int(f[k]), int(f[(k + 1) % 3])))) for f in model.faces for k in range(3)}
    assert len(fine) == len(model) + len(edges)
    np.testing.assert_allclose(fine.skin_weights.sum(1), 1, atol=1e-5)
    assert fine.pose_basis.shape == (36, len(fine), 3)
    coarse = model.with_shape(np.ones(9)).with_pose(None, {"jaw": (0.2, 0, 0)}).vertices
    detailed = fine.with_shape(np.ones(9)).with_pose(None, {"jaw": (0.2, 0, 0)}).vertices
    np.testing.assert_allclose(detailed[: len(model)], coarse, atol=1e-6)


def test_texture_coordinates_come_from_the_template_obj(flame_path, arrays, tmp_path):
    obj = tmp_path / "head_template_mesh.obj"
    lines = ["vt 0.25 0.5", "vt 1 0", "vt 0 1"]
    lines += [f"f {a + 1}/1 {b + 1}/2 {c + 1}/3" for a, b, c in arrays["f"].tolist()]
    obj.write_text("\n".join(lines))
    model = load_flame(flame_path, template_obj=obj)
    assert model.uv.tolist() == [[0.25, 0.5], [1, 0], [0, 1]] and model.uv_faces[7].tolist() == [0, 1, 2]
    obj.write_text("\n".join(lines[:-1]))
    with pytest.raises(HeadsplatError, match="head_template_mesh"):
        load_flame(flame_path, template_obj=obj)


class Calls:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(marker):
    """Pickles that would leave `marker` behind, or reach further than numbers, if they were obeyed."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    build_class = b"\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00codeK\x01s\x86b."
    yield pickle.dumps(Calls(os.system, touch))
    yield pickle.dumps(Calls(eval, code), protocol=0)
    yield pickle.dumps(Calls(exec, code))
    yield pickle.dumps(Calls(getattr, os.system, "__call__"))
    yield pickle.dumps({"v_template": Calls(eval, code)})
    yield pickle.dumps(np.array([Calls(eval, code)], object))
    yield pickle.dumps(Calls(np.load, str(marker)))
    yield pickle.dumps(Calls(np.fromfile, __file__))
    yield pickle.dumps(Calls(np.ndarray, (3,)))
    yield pickle.dumps(Calls(__import__, "os"))
    yield pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))))
    yield b"\x80\x02ccopy_reg\n_reconstructor\n(cposix\nsystem\nc__builtin__\nobject\nNtR."
    yield b"\x80\x02ccopy_reg\n_reconstructor\n(cnumpy\ndtype\n(X\x01\x00\x00\x00atR."
    yield b"\x80\x04\x8c\x05numpy\x8c\x11core.os.system\x93."
    yield b"\x80\x04\x8c\x08builtins\x8c\x0fobject.__class__\x93."
    yield build_class
    yield b"\x80\x02Pexternal\n."
    yield b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
    yield b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR."


def test_malicious_pickles_are_refused_and_nothing_runs(tmp_path):
    marker = tmp_path / "executed"
    for number, content in enumerate(hostile(marker)):
        path = tmp_path / f"evil{number}.pkl"
        path.write_bytes(content)
        with pytest.raises(HeadsplatError):
            load_flame(path)
        assert not marker.exists()


def test_stand_ins_stay_as_they_were_after_an_attempt_to_change_them(tmp_path, flame_path, arrays):
    path = tmp_path / "evil.pkl"
    for name in (
        b"numpy\ndtype",
        b"numpy.core.multiarray\n_reconstruct",
        b"chumpy.ch\nCh",
        b"__builtin__\nobject",
    ):
        for key in (b"fill", b"__init__", b"__setstate__", b"value"):
            length = len(key).to_bytes(4, "little")
            path.write_bytes(b"\x80\x02c" + name + b"\nN}X" + length + key + b"K\x01s\x86b.")
            with pytest.raises(HeadsplatError):
                load_flame(path)
    check_model(load_flame(flame_path), arrays)


def test_objects_in_an_npz_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "flame.npz", **{**arrays, "J_regressor": np.array([Calls(os.getcwd)], object)})
    with pytest.raises(HeadsplatError):
        load_flame(tmp_path / "flame.npz")


def test_damaged_files_are_refused_in_a_sentence(tmp_path, flame_path):
    data = flame_path.read_bytes()
    path = tmp_path / "damaged.pkl"
    rng = np.random.default_rng(2)
    for content in (
        b"",
        b"\x80",
        data[:1000],
        data[:-1],
        b"not a pickle at all",
        pickle.dumps([1, 2]),
        pickle.dumps({}),
    ):
        path.write_bytes(content)
        with pytest.raises(HeadsplatError):
            load_flame(path)
    head = bytearray(data[:4000])
    for _ in range(120):  # any error of the pickle machine becomes ours
        broken = bytearray(head)
        for position in rng.integers(0, len(broken), 3):
            broken[position] = rng.integers(256)
        path.write_bytes(bytes(broken))
        with pytest.raises(HeadsplatError):
            load_flame(path)
    with pytest.raises(HeadsplatError):
        load_flame(tmp_path / "absent.pkl")


@pytest.mark.parametrize(
    "change",
    [
        {"f": None},
        {"weights": np.zeros((60, 4))},
        {"posedirs": np.zeros((60, 3, 27))},
        {"f": np.full((4, 3), 60)},
        {"v_template": np.full((60, 3), np.nan)},
        {"shapedirs": np.zeros((60, 3, 100))},
        {"kintree_table": np.array([[-1, 2, 1, 1, 1], [0, 1, 2, 3, 4]])},
        {"J_regressor": np.zeros((5, 61))},
        {"J_regressor": np.array(1.0)},
        {"v_template": np.array(0.5)},
        {"kintree_table": np.array(3)},
        {"f": np.zeros(3, np.int64)},
    ],
)
def test_other_layouts_are_refused(tmp_path, arrays, change):
    content = {key: value for key, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "flame.npz", **content)
    with pytest.raises(HeadsplatError):
        load_flame(tmp_path / "flame.npz")


@pytest.mark.parametrize(
    ("starts", "shape"),
    [
        (np.array([0, 1, 2, 3_000_000_000]), (3, 3)),
        (np.array([0, 2, 1, 3]), (3, 3)),
        (np.array([1, 2, 3, 3]), (3, 3)),
        (np.zeros(0, np.int64), (3, 3)),
        (np.array([0, 1, 2, 3]), (-3, -3)),
        (np.array([0, 1, 2, 3]), (100_000, 100_000)),
    ],
)
def test_sparse_matrices_are_no_larger_than_they_say(monkeypatch, tmp_path, arrays, starts, shape):
    kind = foreign(monkeypatch, "scipy.sparse._csc", "csc_matrix")
    matrix = kind()
    matrix.__dict__.update(data=np.ones(3), indices=np.zeros(3, np.int32), indptr=starts, _shape=shape)
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps({**arrays, "J_regressor": matrix}))
    with pytest.raises(HeadsplatError, match="no FLAME model needs"):
        load_flame(path)


def test_an_npz_whose_header_promises_more_than_it_holds_is_refused(tmp_path):
    header = io.BytesIO()
    large = {"descr": "<f8", "fortran_order": False, "shape": (1 << 34,)}
    np.lib.format.write_array_header_1_0(header, large)
    with zipfile.ZipFile(tmp_path / "flame.npz", "w") as file:
        file.writestr("v_template.npy", header.getvalue() + b"12345678")
    with pytest.raises(HeadsplatError, match=r"not a plain \.npz"):
        load_flame(tmp_path / "flame.npz")


def test_endianness_and_small_types_are_respected(tmp_path):
    content = {
        "big": np.arange(5, dtype=">i4"),
        "half": np.ones(3, np.float16),
        "flag": np.array([True, False]),
    }
    path = tmp_path / "numbers.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    read = read_flame_arrays(path)
    for key, value in content.items():
        np.testing.assert_array_equal(read[key], value)

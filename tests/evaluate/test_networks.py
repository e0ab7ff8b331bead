"""Networks: what is missing is said, and faces are brought to where ArcFace expects them."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.evaluate import networks
from headsplat.evaluate.cases import file_hash
from headsplat.evaluate.networks import ARCFACE_POINTS, Networks, align_face, five_points

pytest.importorskip("cv2")


def test_without_a_network_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(networks.ARCFACE_VARIABLE, raising=False)
    assert "HEADSPLAT_ARCFACE" in (Networks.found().why_no_csim() or "")
    assert Networks.found().identity()["arcface"] == "none"


def test_lpips_is_found_where_its_makers_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(networks.LPIPS_VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    package = tmp_path / "site" / "lpips"
    monkeypatch.syspath_prepend(package.parent)
    assert networks.LPIPS_VARIABLE in (Networks.found().why_no_lpips() or "")
    alexnet = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    linear = package / "weights" / "v0.1" / "alex.pth"
    for file in (alexnet, linear, package / "__init__.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        # The package must be looked at, not run: it would import torchvision.
        file.write_text("raise AssertionError('imported')")
    importlib.invalidate_caches()
    found = Networks.found()
    assert (found.alexnet, found.linear) == (str(alexnet), str(linear)) and found.why_no_lpips() is None
    before = found.identity()
    file_hash.cache_clear()
    alexnet.write_text("other weights")
    assert found.identity()["alexnet"] != before["alexnet"]


def test_lpips_of_random_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv(networks.LPIPS_VARIABLE, str(tmp_path))
    with pytest.raises(HeadsplatError, match=r"alexnet-owt-7be5be79\.pth and alex\.pth"):
        Networks.found()
    widths = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    torch.manual_seed(5)
    state = {}
    for place, (out, into, side) in widths.items():
        state[f"features.{place}.weight"] = torch.randn(out, into, side, side) / (into * side**2) ** 0.5
        state[f"features.{place}.bias"] = torch.zeros(out)
    torch.save(state, tmp_path / "alexnet-owt-7be5be79.pth")
    lins = {f"lin{k}.model.1.weight": torch.rand(1, out, 1, 1) for k, (out, *_) in enumerate(widths.values())}
    torch.save(lins, tmp_path / "alex.pth")
    measure = Networks.found().lpips
    target = np.random.default_rng(0).uniform(0.2, 0.8, (90, 80, 3))
    noise = np.random.default_rng(1).normal(0, 0.1, target.shape)
    assert measure(target, target) == 0
    assert 0 < measure(target + 0.3 * noise, target) < measure(target + noise, target)


def test_a_named_network_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="ArcFace"):
        Networks.found(tmp_path / "no.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no network")
    monkeypatch.setenv(networks.ARCFACE_VARIABLE, str(tmp_path / "a.onnx"))
    named = Networks.found()
    assert named.why_no_csim() is None
    with pytest.raises(HeadsplatError, match="OpenCV can run"):
        named.csim(np.zeros((9, 9, 3)), _points(), np.zeros((9, 9, 3)), _points())


def test_csim_compares_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean:
        """Stands in for a network: embeds a face as its mean colour."""

        def setInput(self, blob: np.ndarray) -> None:
            assert blob.shape == (1, 3, 112, 112) and blob.dtype == np.float32
            self.blob = blob

        def forward(self) -> np.ndarray:
            return self.blob.mean((2, 3))

    monkeypatch.setattr(networks, "_arcface", lambda path: Mean())
    red, green = np.zeros((300, 300, 3), np.float32), np.zeros((300, 300, 3), np.float32)
    red[..., 0], green[..., 1] = 1, 1
    points = _points()
    # Red is (1, -1, -1), green (-1, 1, -1) in the range of the network: cosine -1/3.
    measure = Networks("x").csim
    assert measure(red, points, red, points) == pytest.approx(1)
    assert measure(red, points, green, points) == pytest.approx(-1 / 3, abs=0.05)


def test_csim_of_a_random_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    filters = rng.normal(size=(4, 3, 16, 16)).astype(np.float32)
    (tmp_path / "tiny.onnx").write_bytes(convolution_as_onnx(filters))
    measure = Networks.found(tmp_path / "tiny.onnx").csim
    one, two = rng.uniform(0, 1, (2, 300, 300, 3)).astype(np.float32)
    points = _points()

    def embed(image: np.ndarray) -> np.ndarray:
        face = align_face(image, points) * 2 - 1
        patches = face.reshape(7, 16, 7, 16, 3)
        return np.einsum("aybxc,ocyx->oab", patches, filters).ravel()

    a, b = embed(one), embed(two)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert measure(one, points, two, points) == pytest.approx(expected, abs=1e-4)
    assert measure(one, points, one, points) == pytest.approx(1)


def convolution_as_onnx(filters: np.ndarray) -> bytes:
    """An ONNX file of one convolution (O, 3, 16, 16) of stride 16 on (1, 3, 112, 112), as protobuf bytes."""

    def number(field: int, value: int) -> bytes:
        return varint(field << 3) + varint(value)

    def block(field: int, value: bytes | str) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        return varint(field << 3 | 2) + varint(len(data)) + data

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def tensor(name: str, *shape: int) -> bytes:
        sides = b"".join(block(1, number(1, side)) for side in shape)
        return block(1, name) + block(2, block(1, number(1, 1) + block(2, sides)))

    def integers(name: str, *values: int) -> bytes:
        return block(5, block(1, name) + b"".join(number(8, v) for v in values) + number(20, 7))

    node = block(1, "face") + block(1, "filters") + block(2, "embedding") + block(4, "Conv")
    node += integers("kernel_shape", 16, 16) + integers("strides", 16, 16)
    shape = b"".join(number(1, side) for side in filters.shape)
    weights = shape + number(2, 1) + block(8, "filters") + block(9, filters.tobytes())
    graph = block(1, node) + block(2, "tiny") + block(5, weights)
    graph += block(11, tensor("face", 1, 3, 112, 112)) + block(12, tensor("embedding", 1, len(filters), 7, 7))
    return number(1, 7) + block(7, graph) + block(8, block(1, "") + number(2, 13))


def test_aligned_faces_have_their_points_in_place() -> None:
    points = _points()
    image = np.zeros((300, 300, 3), np.float32)
    y, x = np.mgrid[:300, :300] + 0.5
    for spot in five_points(points):
        image += np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 18)[..., None].astype(np.float32)
    aligned = align_face(image, points)[..., 0]
    for spot in ARCFACE_POINTS:
        row, column = np.round(spot[::-1]).astype(int)
        part = aligned[row - 6 : row + 7, column - 6 : column + 7]
        peak = np.unravel_index(part.argmax(), part.shape)
        assert np.hypot(peak[0] - 6, peak[1] - 6) < 1.6


def _points() -> np.ndarray:
    """478 points whose five are ArcFace's, turned by 20 degrees, doubled and moved."""
    from headsplat.track import landmarks as lm

    angle = np.radians(20)
    turn = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = (ARCFACE_POINTS + 0.5) @ turn.T + [80, 20]
    points = np.zeros((478, 2))
    points[lm.EYE_RIGHT], points[lm.EYE_LEFT] = five[0], five[1]
    points[lm.NOSE_TIP], points[61], points[291] = five[2:]
    return points

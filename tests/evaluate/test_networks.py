"""Networks: what is missing is said, and faces are brought to where ArcFace expects them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.evaluate import networks
from headsplat.evaluate.networks import ARCFACE_POINTS, Networks, align_face, five_points

pytest.importorskip("cv2")


def test_without_a_network_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(networks.ARCFACE_VARIABLE, raising=False)
    assert "HEADSPLAT_ARCFACE" in (Networks.found().why_no_csim() or "")
    assert Networks.found().identity()["arcface"] == "none"


def test_lpips_is_never_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert str(tmp_path) in (networks.why_no_lpips() or "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in (networks.why_no_lpips() or "")


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

"""One photo into a frame: what must hold of it, and what is refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from painted_head import paint

from headsplat.clip import Frame
from headsplat.data.image import write_image
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.track import track_photo
from headsplat.track.occlusion import cover
from headsplat.track.photo import confidence_of, crop_around, warp
from headsplat.track.torso import head_angles

pytest.importorskip("mediapipe")
data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return data.astronaut()


@pytest.fixture(scope="module")
def frame(portrait: np.ndarray) -> Frame:
    return track_photo(portrait)


def test_shapes_and_ranges(frame: Frame) -> None:
    model = load_free_head()
    assert frame.image.shape == (512, 512, 3) and frame.image.dtype == np.float32
    assert frame.alpha.shape == frame.valid.shape == (512, 512) and frame.valid.dtype == bool
    assert frame.foreground.shape == (512, 512, 3)
    for picture in (frame.image, frame.alpha, frame.foreground):
        assert np.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 1
    assert frame.shape.shape == (len(model.shape_basis),)
    assert frame.expression.shape == (52,) and frame.expression.min() >= 0
    assert frame.rotations.shape == (len(model.joint_names), 3)
    assert frame.landmarks.shape == (478, 2)
    assert len(frame.source) == 64
    assert 0 < frame.landmark_error < 0.014 and 0.5 < frame.confidence <= 1


def _landmarks(frame: Frame) -> np.ndarray:
    posed = load_free_head().with_shape(frame.shape).with_pose(frame.expression, frame.rotations)
    return frame.camera.project(posed.landmarks())[:, :2]


def test_the_camera_sees_the_posed_head_on_the_landmarks(frame: Frame) -> None:
    away = np.linalg.norm(_landmarks(frame) - frame.landmarks[:468], axis=1)
    eyes = np.linalg.norm(frame.landmarks[33] - frame.landmarks[263])
    assert away.mean() / eyes < 0.025  # without the detector's own offsets, and with the neck's skinning


def test_the_matte_holds_the_face_and_not_the_corners(frame: Frame) -> None:
    x, y = frame.landmarks[:468].T.astype(int)
    assert frame.alpha[y, x].mean() > 0.98
    assert frame.alpha[:40, :40].max() < 0.1 and frame.alpha[:40, -40:].max() < 0.1
    assert not frame.alpha[~frame.valid].any()
    assert 0.2 < frame.alpha.mean() < 0.7


def test_the_smile_is_seen(frame: Frame) -> None:
    names = load_free_head().expression_names
    smile = frame.expression[[names.index("mouthSmileLeft"), names.index("mouthSmileRight")]]
    assert smile.mean() > 0.25


def test_a_mirrored_photo_gives_the_mirrored_pose(frame: Frame, portrait: np.ndarray) -> None:
    other = track_photo(np.ascontiguousarray(portrait[:, ::-1]))
    a, b = _head_angles(frame), _head_angles(other)
    np.testing.assert_allclose(np.degrees([a[0] + b[0], a[1] - b[1], a[2] + b[2]]), 0, atol=1.5)
    assert other.landmark_error == pytest.approx(frame.landmark_error, abs=0.002)


def _head_angles(frame: Frame) -> tuple[float, float, float]:
    posed = load_free_head().with_shape(frame.shape).with_pose(None, frame.rotations)
    head = posed.transforms[load_free_head().joint_names.index("head")]
    return head_angles(np.asarray(frame.camera.viewmat, float)[:3, :3] @ head[:3, :3])


def test_size_of_the_picture_does_not_matter(frame: Frame, portrait: np.ndarray) -> None:
    import cv2

    larger = track_photo(cv2.resize(portrait, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC))
    np.testing.assert_allclose(np.degrees(_head_angles(larger)), np.degrees(_head_angles(frame)), atol=1.5)
    assert np.abs(larger.landmarks - frame.landmarks).mean() < 1.5


def test_from_a_file_of_any_kind(tmp_path: Path, frame: Frame, portrait: np.ndarray) -> None:
    write_image(tmp_path / "a.webp", portrait, quality=90)
    other = track_photo(tmp_path / "a.webp", size=256)
    assert other.image.shape == (256, 256, 3) and other.camera.width == 256
    assert np.abs(other.landmarks * 2 - frame.landmarks).mean() < 2
    assert other.source != frame.source


def test_a_known_person_keeps_her_identity(frame: Frame, portrait: np.ndarray) -> None:
    again = track_photo(np.clip(portrait * 0.9, 0, 255).astype(np.uint8), person=frame)
    np.testing.assert_array_equal(again.shape[:60], frame.shape[:60])
    np.testing.assert_allclose(again.expression, frame.expression, atol=0.15)
    # Her own face explains what the average face could not.
    assert again.landmark_error < 0.5 * frame.landmark_error


def test_expressions_of_a_known_person_are_measured_against_her_own_face() -> None:
    names = load_free_head().expression_names
    brow, smile = names.index("browDownLeft"), names.index("mouthSmileLeft")
    known = track_photo(paint(seed=700, spread=1.0).image)
    moved = paint(seed=700, spread=1.0, expression={"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}).image
    blind, seeing = track_photo(moved), track_photo(moved, person=known)
    assert seeing.expression[smile] > known.expression[smile] + 0.25
    change = abs(seeing.expression[brow] - known.expression[brow])
    assert change < 0.15 and change <= abs(blind.expression[brow] - known.expression[brow]) + 0.05


def test_several_faces(portrait: np.ndarray) -> None:
    two = np.concatenate([portrait[:, 50:400], portrait[:, 400:50:-1]], 1)
    with pytest.raises(HeadsplatError, match=r"2 faces.*--face 1.*leftmost.*--face 2"):
        track_photo(two)
    left, right = (track_photo(two, face=n) for n in (1, 2))
    assert left.crop[0, 2] > right.crop[0, 2]
    assert np.degrees(_head_angles(left)[2]) == pytest.approx(-np.degrees(_head_angles(right)[2]), abs=2)
    with pytest.raises(HeadsplatError, match="no face number 3"):
        track_photo(two, face=3)


def test_a_small_face_is_refused(portrait: np.ndarray) -> None:
    import cv2

    canvas = np.full((400, 400, 3), 128, np.uint8)
    canvas[100:300, 100:300] = cv2.resize(portrait[:260, 90:350], (200, 200), interpolation=cv2.INTER_AREA)
    small = cv2.resize(canvas, (240, 240), interpolation=cv2.INTER_AREA)
    with pytest.raises(HeadsplatError, match=r"too small|no face"):
        track_photo(small)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_no_human_face(name: str) -> None:
    with pytest.raises(HeadsplatError, match="face"):
        track_photo(getattr(data, name)())


@pytest.mark.parametrize("shape", [(1, 1), (20, 2000), (300, 300)])
def test_nothing_to_see(shape: tuple[int, int]) -> None:
    with pytest.raises(HeadsplatError, match="no face"):
        track_photo(np.full((*shape, 3), 0.5, np.float32))


def test_not_an_image() -> None:
    with pytest.raises(HeadsplatError, match="shape"):
        track_photo(np.zeros((10, 10)))


def test_a_profile_is_refused() -> None:
    with pytest.raises(HeadsplatError, match=r"turned|face"):
        track_photo(paint(seed=3, yaw=np.radians(85)).image)


def test_confidence_falls_with_whatever_makes_a_fit_doubtful() -> None:
    best = confidence_of(0.01, 0.0, 200)
    turned = [confidence_of(0.01, np.radians(a), 200) for a in (0, 40, 60)]
    assert best == turned[0] > turned[1] > turned[2] > 0
    assert confidence_of(0.03, 0.0, 200) < best
    assert confidence_of(0.01, 0.0, 70) < best
    assert confidence_of(0.01, 0.0, 200, cover=1.5) < 0.3 < best


@pytest.mark.parametrize("colour", [(0.7, 0.8, 0.9), (0.1, 0.1, 0.12)])
def test_a_mask_is_noticed_and_a_bare_face_is_not(frame: Frame, colour: tuple[float, ...]) -> None:
    import cv2

    assert cover(frame.image, frame.landmarks) < 0.9
    corners = frame.landmarks[[195, 50, 93, 172, 152, 397, 323, 280]].astype(np.int32)
    masked = cv2.fillPoly(frame.image.copy(), [corners], colour)
    assert cover(masked, frame.landmarks) > 1.2


@pytest.mark.parametrize("scale", [0.4, 0.9, 1.0, 2.7])
def test_the_crop_maps_pixels_exactly(scale: float) -> None:
    # A picture that holds its own coordinates: after warping, each pixel must name where it came from.
    y, x = np.mgrid[:300, :400] + 0.5
    picture = np.stack([x / 400, y / 300, np.zeros_like(x)], -1).astype(np.float32)
    crop = np.array([[scale, 0, 64 - scale * 200.3], [0, scale, 64 - scale * 150.6]])
    out, valid = warp(picture, crop, 128)
    v, u = np.mgrid[:128, :128] + 0.5
    back_x, back_y = (u - crop[0, 2]) / scale, (v - crop[1, 2]) / scale
    inside = (back_x > 8) & (back_x < 392) & (back_y > 8) & (back_y < 292)
    np.testing.assert_allclose(out[inside][:, 0] * 400, back_x[inside], atol=0.2)
    np.testing.assert_allclose(out[inside][:, 1] * 300, back_y[inside], atol=0.2)
    np.testing.assert_array_equal(valid, (back_x >= 0) & (back_x <= 400) & (back_y >= 0) & (back_y <= 300))


def test_the_crop_centres_the_face(frame: Frame) -> None:
    np.testing.assert_allclose(crop_around(frame.landmarks.astype(float), 512)[:, :2], np.eye(2), atol=0.01)
    assert abs(frame.landmarks[:, 0].mean() - 256) < 10

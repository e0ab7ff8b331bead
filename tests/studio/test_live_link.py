"""Live Link Face packets: parsed by the documented layout, and nothing else gets through."""

from __future__ import annotations

import asyncio
import socket
import struct

import numpy as np
import pytest
from studio_helpers import packet

from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.arkit import ARKIT
from headsplat.takes import GAZE
from headsplat.web.live_link import STREAM_NAMES, LiveLinkFrame, listen, parse_packet


def test_the_stream_has_all_52_names_with_left_before_right() -> None:
    assert sorted(STREAM_NAMES) == sorted(ARKIT)
    for name in ("jawLeft", "mouthLeft", "mouthSmileLeft", "eyeBlinkLeft", "browDownLeft"):
        assert STREAM_NAMES.index(name) < STREAM_NAMES.index(name.replace("Left", "Right"))
    assert (STREAM_NAMES[0], STREAM_NAMES[17], STREAM_NAMES[51]) == ("eyeBlinkLeft", "jawOpen", "tongueOut")


def test_a_packet_becomes_named_weights_and_turns() -> None:
    frame = parse_packet(packet({"jawOpen": 0.5, "eyeLookOutLeft": 1.0}, head=(0.3, -0.1, 0.2), frame=90))
    assert frame is not None
    assert frame.subject == "Ada"
    assert frame.time == pytest.approx(1.5 + 0.25 / 60)
    assert frame.weights["jawOpen"] == 0.5
    assert sum(frame.weights.values()) == 1.5
    turn = np.add(frame.rotations["neck"], frame.rotations["head"])
    y, x, z = (axis_angle_to_matrix(np.array(v)) for v in ((0, 0.3, 0), (-0.1, 0, 0), (0, 0, 0.2)))
    np.testing.assert_allclose(axis_angle_to_matrix(turn), y @ x @ z, atol=1e-6)
    assert frame.rotations["left_eye"] == pytest.approx([0, GAZE, 0])
    assert frame.rotations["right_eye"] == pytest.approx([0, 0, 0])


def test_weights_are_clamped() -> None:
    frame = parse_packet(packet({"jawOpen": 1.3, "cheekPuff": -0.2}))
    assert frame is not None
    assert (frame.weights["jawOpen"], frame.weights["cheekPuff"]) == (1.0, 0.0)


GOOD = packet({"jawOpen": 0.5})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x06",
        b"hello",
        b"\x05" + GOOD[1:],  # another version
        GOOD[:-1],
        GOOD[:40],
        b"\x06" + struct.pack(">i", -5) + GOOD[5:],
        b"\x06" + struct.pack(">i", 2**31 - 1) + GOOD[5:],
        packet({"jawOpen": float("nan")}),
        packet({}, head=(float("inf"), 0, 0)),
        packet({}, rate=0),
        packet({}, count=0),
        packet({}, count=52),
        bytes(1400),
    ],
)
def test_whatever_is_no_face_is_ignored(data: bytes) -> None:
    assert parse_packet(data) is None


def test_every_cut_packet_is_ignored() -> None:
    assert all(parse_packet(GOOD[:n]) is None for n in range(len(GOOD)))


def test_the_listener_hears_faces_and_survives_noise() -> None:
    async def run() -> list[LiveLinkFrame]:
        heard: list[LiveLinkFrame] = []
        arrived = asyncio.Event()
        transport = await listen(lambda frame: (heard.append(frame), arrived.set()), port=0, host="127.0.0.1")
        address = transport.get_extra_info("sockname")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for data in (b"noise", bytes(2000), GOOD):
                phone.sendto(data, address)
            await asyncio.wait_for(arrived.wait(), 5)
            with pytest.raises(HeadsplatError, match="not free"):
                await listen(heard.append, port=address[1], host="127.0.0.1")
        transport.close()
        return heard

    heard = asyncio.run(run())
    assert [frame.weights["jawOpen"] for frame in heard] == [0.5]

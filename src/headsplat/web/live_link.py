"""Live Link Face: an iPhone's UDP packets become expression weights and joint rotations by name."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.motion import split_head_turn, turn_of_angles
from headsplat.takes import eye_turns

PORT = 11111
_VERSION = 6
_TIMING = struct.Struct(">ifiiB")  # frame, sub-frame, rate numerator and denominator, number of values
_SIDES = ("Left", "Right")
_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
_MOUTH_PAIRS = ("Smile", "Frown", "Dimple", "Stretch")
_LOWER_PAIRS = ("Press", "LowerDown", "UpperUp")

# The order of the values in a packet: in the stream left comes before right, unlike in the app's CSV files.
STREAM_NAMES: tuple[str, ...] = (
    *(name + side for side in _SIDES for name in _EYE),
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    *(f"mouth{name}{side}" for name in _MOUTH_PAIRS for side in _SIDES),
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    *(f"mouth{name}{side}" for name in _LOWER_PAIRS for side in _SIDES),
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
_ANGLES = 9  # yaw, pitch, roll of the head, the left eye, the right eye


@dataclass(frozen=True)
class LiveLinkFrame:
    """One packet.

    Attributes:
        subject: the name given to the face in the app.
        time: seconds since the app's midnight, from frame number and rate.
        weights: ARKit name to weight, 0..1.
        rotations: joint name to rotation vector [x, y, z], radians; the eyes follow the eyeLook weights.
    """

    subject: str
    time: float
    weights: dict[str, float]
    rotations: dict[str, list[float]]


def parse_packet(data: bytes) -> LiveLinkFrame | None:
    """Decode one UDP packet; None if it is not a face (the app also sends packets without values).

    Layout, big-endian: version byte (6), device and subject as int32 length + UTF-8, frame time, count (61),
    52 weights, 9 angles in radians.
    """
    try:
        if data[0] != _VERSION:
            return None
        _, at = _text(data, 1)
        subject, at = _text(data, at)
        frame, sub_frame, rate, base, count = _TIMING.unpack_from(data, at)
        values = np.frombuffer(data, ">f4", count, at + _TIMING.size)
    except (IndexError, struct.error, ValueError):
        return None
    if count != len(STREAM_NAMES) + _ANGLES or rate <= 0 or base <= 0 or not np.isfinite(values).all():
        return None
    weights = np.clip(values[: len(STREAM_NAMES)], 0, 1).astype(np.float64)
    angles = np.clip(values[len(STREAM_NAMES) : len(STREAM_NAMES) + 3], -np.pi, np.pi)
    neck, head = split_head_turn(turn_of_angles(angles))
    left, right = eye_turns(STREAM_NAMES, weights[None])
    turns = {"neck": neck, "head": head, "left_eye": left[0], "right_eye": right[0]}
    return LiveLinkFrame(
        subject,
        (frame + sub_frame) * base / rate,
        dict(zip(STREAM_NAMES, weights.tolist(), strict=True)),
        {joint: vector.tolist() for joint, vector in turns.items()},
    )


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">i", data, at)
    end = at + 4 + length
    if not 0 <= length <= 256 or end > len(data):
        raise ValueError("a string runs out of the packet")
    return data[at + 4 : end].decode("utf-8", "replace"), end


async def listen(
    on_frame: Callable[[LiveLinkFrame], None], *, port: int = PORT, host: str = "0.0.0.0"
) -> asyncio.DatagramTransport:
    """Receive packets until the returned transport is closed; whatever is not a face is ignored.

    Args:
        on_frame: called in the event loop for each face.
        port: UDP port, as set in the app.
        host: interface; the phone must be able to reach it, so all of them by default.

    Raises:
        HeadsplatError: the port is taken.
    """

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            frame = parse_packet(data)
            if frame is not None:
                on_frame(frame)

    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Receiver, local_addr=(host, port)
        )
    except OSError as error:
        raise HeadsplatError(
            f"UDP port {port} is not free ({error.strerror}); close the other Live Link receiver."
        ) from error
    return transport

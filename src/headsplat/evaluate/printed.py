"""What the papers print about themselves and each other: on their data, by their code; not comparable.

The same method differs by up to a decibel between papers (LAM on VFHQ: 22.65 and 21.67 dB), and AED and APD
differ in unit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of a paper's table; scores have the names of `judge.METRICS`."""

    protocol: str
    method: str
    where: str
    data: str
    scores: dict[str, float]


def _row(protocol: str, method: str, where: str, data: str, names: str, values: str) -> Printed:
    scores = dict(zip(names.split(), map(float, values.split()), strict=True))
    return Printed(protocol, method, where, data, scores)


_LAM = "psnr ssim lpips csim aed apd akd"
_FH = "psnr ssim lpips csim akd aed apd"
_CROSS = "csim aed apd"
_IMAGE = "psnr ssim lpips"

PRINTED: tuple[Printed, ...] = (
    _row("self", "LAM", "LAM, table 1", "VFHQ", _LAM, "22.65 0.829 0.109 0.822 0.102 0.134 2.059"),
    _row("self", "GAGAvatar", "LAM, table 1", "VFHQ", _LAM, "21.83 0.818 0.122 0.816 0.111 0.135 3.349"),
    _row("self", "LAM", "LAM, table 2", "HDTF", _LAM, "23.43 0.873 0.097 0.865 0.101 0.093 1.965"),
    _row("self", "GAGAvatar", "LAM, table 2", "HDTF", _LAM, "23.13 0.863 0.103 0.862 0.110 0.111 2.985"),
    _row("self", "FHAvatar", "FHAvatar, table 1", "VFHQ", _FH, "23.24 .7995 .2384 .8012 2.798 .3634 .8660"),
    _row("self", "LAM", "FHAvatar, table 1", "VFHQ", _FH, "21.67 .7756 .2716 .6846 3.676 .4535 1.4286"),
    _row("self", "GAGAvatar", "FHAvatar, table 1", "VFHQ", _FH, "21.60 .7745 .2249 .8459 2.954 .3125 .8898"),
    _row("self", "FHAvatar", "FHAvatar, table 2", "HDTF", _FH, "26.61 .8642 .1900 .8622 2.287 .3318 .5286"),
    _row("self", "LAM", "FHAvatar, table 2", "HDTF", _FH, "23.55 .8167 .2362 .7542 3.386 .4180 .8911"),
    _row("self", "GAGAvatar", "FHAvatar, table 2", "HDTF", _FH, "23.72 .8177 .2089 .8894 2.679 .3034 .5977"),
    _row("cross", "LAM", "LAM, table 1", "VFHQ", _CROSS, "0.651 0.250 0.356"),
    _row("cross", "GAGAvatar", "LAM, table 1", "VFHQ", _CROSS, "0.633 0.253 0.247"),
    _row("cross", "LAM", "LAM, table 2", "HDTF", _CROSS, "0.849 0.230 0.229"),
    _row("cross", "GAGAvatar", "LAM, table 2", "HDTF", _CROSS, "0.851 0.231 0.181"),
    _row("cross", "FHAvatar", "FHAvatar, table 1", "VFHQ", _CROSS, "0.6757 0.7103 2.3661"),
    _row("cross", "LAM", "FHAvatar, table 1", "VFHQ", _CROSS, "0.5562 0.7271 3.2028"),
    _row("cross", "GAGAvatar", "FHAvatar, table 1", "VFHQ", _CROSS, "0.6681 0.6409 1.7486"),
    _row("cross", "FHAvatar", "FHAvatar, table 2", "HDTF", _CROSS, "0.8568 0.7347 1.5605"),
    _row("cross", "LAM", "FHAvatar, table 2", "HDTF", _CROSS, "0.7656 0.7731 1.6635"),
    _row("cross", "GAGAvatar", "FHAvatar, table 2", "HDTF", _CROSS, "0.9004 0.7300 1.2045"),
    _row("novel", "FHAvatar", "FHAvatar, table 3", "MEAD", _FH, "17.20 .7495 .3402 .6765 4.844 .5037 1.9484"),
    _row("novel", "HeadGAP, 1 image", "HeadGAP, table 1", "NeRSemble", _IMAGE, "14.75 0.792 0.217"),
    _row("fewshot", "HeadGAP, 3 images", "HeadGAP, table 1", "NeRSemble", _IMAGE, "20.90 0.868 0.144"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID1", _IMAGE, "31.70 0.940 0.091"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID2", _IMAGE, "29.21 0.911 0.119"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID3", _IMAGE, "28.70 0.963 0.066"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID4", _IMAGE, "30.06 0.947 0.089"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID5", _IMAGE, "27.65 0.893 0.095"),
    _row("video", "GaussianHead", "GaussianHead, table I", "its ID6", _IMAGE, "28.31 0.904 0.084"),
)

"""Cut a person out of a film: one quick matte per frame that does not flicker."""

from __future__ import annotations

import numpy as np

from headsplat.track import landmarks as lm
from headsplat.track.matte import segment_person

_SURE, _UNSURE = 0.95, 0.05
"""The network's answers beyond which a pixel is taken for the person's, or for the backdrop's."""
_BAND = 5
"""How far the sure regions keep from each other at least, pixels at 512."""
_NEAR, _FAR = 15, 41
"""Widths of the neighbourhoods in which both sides' colours are looked for, pixels at 512."""
_COLOUR_NOISE = 0.06
"""Spread of colours within one side, 0..1: sides less different than that cannot be told apart by colour."""
_OFF_LINE = 0.05
"""A colour farther off the mixtures of both sides' colours than that is neither."""
_STILL, _MOVED = 4.0, 16.0
"""Mean change of a pixel's surroundings, 8-bit, below which it stood still and above which it moved."""
_CALM = 0.35
"""Weight of a new matte against the last one where the picture stood still."""
_STRETCH = 0.04
"""Opacities nearer than this to 0 and 1 become 0 and 1."""
_COARSER, _WIDE, _NARROW = 4, 11, 5
"""Un-mixing: how much smaller the first round is, and how wide both rounds blur, pixels."""


class FilmMatte:
    """Mattes for frame after frame; `state` is all that it remembers.

    The segmentation network answers each frame alone and flickers at the edges. Where the picture has not
    changed the matte has not either, so the answers are averaged there over about the last three frames. At
    the edge the colours of both sides then say how much of each pixel is the person.
    """

    def __init__(self, state: dict[str, np.ndarray] | None = None) -> None:
        """Start, or go on from the `state` of an earlier one."""
        self.state = dict(state or {})

    def cut(
        self, pixels: np.ndarray, landmarks: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next frame's opacity and own colours.

        Args:
            pixels: (H, W, 3) uint8.
            landmarks: (478, 2) pixels.
            valid: (H, W) bool, inside the source.

        Returns:
            alpha: (H, W) float32 0..1, zero where not valid.
            foreground: (H, W, 3) float32 0..1.
        """
        image = pixels.astype(np.float32) / 255
        coarse = self._steady(pixels, segment_person(pixels))
        alpha = _one_person(_sharpen(image, coarse), landmarks) * valid
        return alpha, unmix(image, alpha)

    def _steady(self, pixels: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """The coarse matte, averaged with earlier ones where the picture stands still."""
        import cv2

        small = cv2.GaussianBlur(pixels, (0, 0), _scaled(2, coarse.shape))
        if self.state:
            change = cv2.absdiff(small, self.state["picture"]).max(-1).astype(np.float32)
            change = cv2.blur(change, (9, 9))
            trust = _CALM + (1 - _CALM) * np.clip((change - _STILL) / (_MOVED - _STILL), 0, 1)
            coarse = self.state["matte"] + trust * (coarse - self.state["matte"])
        self.state = {"picture": small, "matte": coarse.astype(np.float32)}
        return self.state["matte"]


def _sharpen(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """The matte (H, W) that colours tell, and where they do not, the coarse one.

    In the band between the sure regions each pixel is placed on the line between the mean colours of the
    person and of the backdrop nearby (Berman et al. 2000); the clearer these differ, the more that counts.
    """
    import cv2

    kernel = np.ones((_scaled(_BAND, coarse.shape),) * 2, np.uint8)
    person = cv2.erode((coarse > _SURE).astype(np.uint8), kernel)
    empty = cv2.erode((coarse < _UNSURE).astype(np.uint8), kernel)
    band = (person == 0) & (empty == 0)
    fore, fore_known = _colours_near(image, person, band)
    back, back_known = _colours_near(image, empty, band)
    line, own = fore - back, image[band] - back
    length = (line**2).sum(-1)
    along = np.clip((own * line).sum(-1) / (length + 1e-6), 0, 1)
    off = ((own - along[:, None] * line) ** 2).sum(-1)
    trust = length / (2 * _COLOUR_NOISE) ** 2 * fore_known * back_known / (1 + off / _OFF_LINE**2)
    alpha = person.astype(np.float32)
    mixed = (trust * along + coarse[band]) / (trust + 1)
    alpha[band] = np.clip((mixed - _STRETCH) / (1 - 2 * _STRETCH), 0, 1)
    return alpha


def _colours_near(image: np.ndarray, region: np.ndarray, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour (N, 3) of a region near each pixel of the band, and (N,) 0..1 whether any was there.

    The nearer neighbourhood counts where it reaches the region, the wider one makes up the rest.
    """
    import cv2

    size = (region.shape[1] // 2, region.shape[0] // 2)
    mask = cv2.resize(region, size, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    inside = cv2.resize(image, size, interpolation=cv2.INTER_AREA) * mask[..., None]
    colours, known = np.zeros((*mask.shape, 3), np.float32), np.zeros_like(mask)
    for width in (_scaled(_NEAR / 2, region.shape), _scaled(_FAR / 2, region.shape)):
        share = cv2.blur(mask, (width, width))
        weight = np.minimum(1, share * width) * (1 - known)
        colours += cv2.blur(inside, (width, width)) * (weight / (share + 1e-6))[..., None]
        known += weight
    whole = region.shape[1::-1]
    colours, known = cv2.resize(colours, whole)[band], cv2.resize(known, whole)[band]
    return colours / np.maximum(known, 1e-6)[:, None], known


def unmix(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person's own colours where they mix with the backdrop; the picture's elsewhere.

    Blur-fusion foreground estimation (Forte 2021, arXiv 2006.14970) in two rounds: colours of both sides from
    a wide neighbourhood, at a quarter of the size, then from a narrow one.

    Args:
        image: (H, W, 3) float32 0..1.
        alpha: (H, W) float32 0..1.

    Returns:
        (H, W, 3) float32 0..1.
    """
    import cv2

    size = (max(1, image.shape[1] // _COARSER), max(1, image.shape[0] // _COARSER))
    small, thin = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (image, alpha))
    everywhere = np.ones(thin.shape, bool)
    fore, back = (
        cv2.resize(x, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        for x in _blur_fusion(small, thin, small, small, _WIDE, everywhere)
    )
    mixed = (alpha > 0) & (alpha < 1)
    # Where a pixel is one side alone, its own colour is that side's; only the band between needs the guess.
    fore, back = (
        np.where((alpha == 1)[..., None], image, fore),
        np.where((alpha == 0)[..., None], image, back),
    )
    out = image.copy()
    out[mixed] = _blur_fusion(image, alpha, fore, back, _NARROW, mixed)[0]
    return out


def _blur_fusion(
    image: np.ndarray, alpha: np.ndarray, fore: np.ndarray, back: np.ndarray, width: int, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One round: smooth both colours over their own side, then put the picture's mismatch on the person.

    Returns:
        Both colours at the pixels `where`; with `where` everywhere, as pictures.
    """
    import cv2

    a = alpha[..., None]
    share = cv2.blur(alpha, (width, width))
    fore, back = cv2.blur(fore * a, (width, width)), cv2.blur(back * (1 - a), (width, width))
    if not where.all():
        image, a, share, fore, back = image[where], a[where], share[where], fore[where], back[where]
    fore, back = fore / (share[..., None] + 1e-5), back / (1 - share[..., None] + 1e-5)
    return np.clip(fore + a * (image - a * fore - (1 - a) * back), 0, 1), np.clip(back, 0, 1)


def _one_person(alpha: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The matte without islands that do not touch the person with this face."""
    import cv2

    mask = (alpha > 0.1).astype(np.uint8)
    _, labels = cv2.connectedComponents(mask)
    x, y = np.clip(landmarks[lm.NOSE_TIP].astype(int), 0, np.array(mask.shape[::-1]) - 1)
    if not labels[y, x]:
        return alpha
    return alpha * cv2.dilate((labels == labels[y, x]).astype(np.uint8), np.ones((3, 3)))


def _scaled(pixels: float, shape: tuple[int, ...]) -> int:
    """A length given for 512 pixels, for a picture of this shape."""
    return max(1, round(pixels * max(shape) / 512))

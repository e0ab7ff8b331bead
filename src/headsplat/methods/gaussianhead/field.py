"""The motion deformation field: position and expression to changes of place, turn and size (equation 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = 3 + 4 + 3


def encode(points: Tensor, octaves: int) -> Tensor:
    """(N, 3 + 6 octaves): points, then sines and cosines of 2^0..2^(octaves-1) times them (Mildenhall 2020).

    Higher octaves come from lower ones by the double-angle formulas: cheaper than sines, and true to 1e-3 in
    the tenth octave.
    """
    parts, sine, cosine = [points], points.sin(), points.cos()
    for _ in range(octaves):
        parts += [sine, cosine]
        sine, cosine = 2 * sine * cosine, 1 - 2 * sine.square()
    return torch.cat(parts, -1)


class DeformationField(nn.Module):
    """An MLP of width W over encoded positions and the condition (expression weights and joint angles).

    The condition is the same for all Gaussians of a frame: its share of a layer is computed once and not per
    Gaussian, which changes nothing but the time.
    """

    def __init__(
        self, condition: int, layers: int, width: int, skip: int, octaves: int, zero_start: bool
    ) -> None:
        """`condition` numbers describe a frame; `skip` joins the input on again after so many layers."""
        super().__init__()
        self.octaves, self.skip = octaves, skip
        inputs = 3 + 6 * octaves + condition
        sizes = [inputs if i == 0 else width + inputs * (i == skip and skip > 0) for i in range(layers)]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.head = nn.Linear(width, OUTPUTS)
        if zero_start:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def _layer(self, number: int) -> tuple[Tensor, Tensor]:
        layer = self.layers[number]
        assert isinstance(layer, nn.Linear)
        return layer.weight, layer.bias

    def forward(self, points: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets (N, 3), (N, 4), (N, 3) of (N, 3) points under a (D,) condition; points get no gradient."""
        with torch.no_grad():
            encoded = encode(points, self.octaves)
        width = encoded.shape[1]
        hidden: Tensor | None = None
        for i in range(len(self.layers)):
            weight, bias = self._layer(i)
            if hidden is None or (i == self.skip and self.skip > 0):
                # Order of a layer's inputs: encoded position, condition, then the hidden vector.
                shared = bias + weight[:, width : width + len(condition)] @ condition
                total = F.linear(encoded, weight[:, :width], shared)
                if hidden is not None:
                    total = total + F.linear(hidden, weight[:, width + len(condition) :])
            else:
                total = F.linear(hidden, weight, bias)
            hidden = F.relu(total)
        assert hidden is not None
        means, quats, scales = self.head(hidden).split([3, 4, 3], -1)
        return means, quats, scales

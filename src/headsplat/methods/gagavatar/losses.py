"""What GAGAvatar's training minimises: crops of the head, perceptual features, points near the head model.

Pictures here are (B, H, W, 3), RGB, targets 0..1; nothing is weighted, the training step does that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from headsplat.errors import HeadsplatError
from headsplat.losses import Perceptual, moved_once, unit_channels

ALEXNET = {
    # name in the checkpoint -> stride, padding, whether a 3 x 3 maximum of stride 2 comes before it
    "net.slice1.0": (4, 2, False),
    "net.slice2.3": (1, 2, True),
    "net.slice3.6": (1, 1, True),
    "net.slice4.8": (1, 1, False),
    "net.slice5.10": (1, 1, False),
}
VGG_FACE = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Convolutions of VGG-16 by their place in its list of layers."""
VGG_FACE_TAPS = (0, 5, 10, 17, 24)
"""The first convolution of each of the five stages."""
VGG_FACE_MEAN = (129.186279296875, 104.76238250732422, 93.59396362304688)
LAYER_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)


def enlarged_box(boxes: Tensor, enlarge: float = 1.1) -> Tensor:
    """Squares around head boxes that stay inside the picture.

    Args:
        boxes: (B, 4) left, top, right, bottom as shares of the picture.
        enlarge: their side over the geometric mean of the box's sides.

    Returns:
        (B, 4) in the same form, 0..1.
    """
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    side = size.prod(1).sqrt() * enlarge
    limits = torch.cat([2 * centre, 2 * (1 - centre), side[:, None]], 1).amin(1, keepdim=True)
    return torch.cat([centre - limits / 2, centre + limits / 2], 1).clamp(0, 1)


def crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """(B, size, size, 3): each picture's part inside its (B, 4) box, shares of the picture."""
    height, width = images.shape[1:3]
    scale = boxes.new_tensor([width, height, width, height])
    crops = []
    for image, (left, top, right, bottom) in zip(images, (boxes * scale).int().tolist(), strict=True):
        part = image[top:bottom, left:right].movedim(-1, 0)[None]
        crops.append(
            F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        )
    return torch.cat(crops).movedim(1, -1)


def nearest_squared(vertices: Tensor, points: Tensor, chunk: int = 1024) -> Tensor:
    """Squared distance from each vertex to the nearest lifted point, with gradients to the points alone.

    Args:
        vertices: (B, V, 3).
        points: (B, M, 3).
        chunk: vertices compared at a time where there is no SciPy.

    Returns:
        (B, V).
    """
    found = []
    for own, cloud in zip(vertices.detach(), points, strict=True):
        found.append((cloud[_nearest(own, cloud.detach(), chunk)] - own).square().sum(-1))
    return torch.stack(found)


def field_perceptual(tensors: Mapping[str, Tensor]) -> Perceptual:
    """The release's distance: AlexNet on ImageNet and VGG-16 on faces, five layers of each.

    Args:
        tensors: the 36 tensors `percep_loss.*` of a released checkpoint, without that prefix.

    Raises:
        HeadsplatError: one is missing.
    """
    layers = [*ALEXNET, *(f"vggface.network.{i}" for i in VGG_FACE)]
    names = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    for name in names:
        if name not in tensors:
            raise HeadsplatError(
                f"The checkpoint has no percep_loss.{name}; give one that holds its loss networks."
            )
    at = moved_once({name: tensors[name] for name in names})

    def distance(images: Tensor, targets: Tensor) -> Tensor:
        alexnet, vgg_face = perceptual_terms(images, targets, at(images))
        return images.new_tensor(LAYER_WEIGHTS) @ (alexnet + 0.5 * vgg_face)

    return Perceptual("AlexNet and VGG-Face features (GAGAvatar)", distance)


def perceptual_terms(images: Tensor, targets: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """(2, 5, B): the distance at five layers of AlexNet, then of VGG-Face, not weighted."""
    terms = []
    for network in (alexnet_features, vgg_face_features):
        for a, b in zip(network(images, tensors), network(targets, tensors), strict=True):
            terms.append((unit_channels(a) - unit_channels(b)).abs().sum(1).mean((1, 2)))
    return torch.stack(terms).unflatten(0, (2, 5))


def alexnet_features(images: Tensor, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Activations (B, C, h, w) after each of AlexNet's five convolutions."""
    mean, std = images.new_tensor([0.485, 0.456, 0.406]), images.new_tensor([0.229, 0.224, 0.225])
    x = ((images - mean) / std).movedim(-1, 1)
    found = []
    for name, (stride, padding, pooled) in ALEXNET.items():
        x = F.max_pool2d(x, 3, 2) if pooled else x
        weight, bias = (tensors[f"{name}.{part}"] for part in ("weight", "bias"))
        x = F.relu(F.conv2d(x, weight, bias, stride, padding))
        found.append(x)
    return found


def vgg_face_features(images: Tensor, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Activations (B, C, h, w) after the first convolution of each of VGG-Face's five stages."""
    x = (255 * images - images.new_tensor(VGG_FACE_MEAN)).movedim(-1, 1)
    found = []
    for i in VGG_FACE[: VGG_FACE.index(VGG_FACE_TAPS[-1]) + 1]:
        x = F.max_pool2d(x, 2) if i in VGG_FACE_TAPS[1:] else x
        weight, bias = (tensors[f"vggface.network.{i}.{part}"] for part in ("weight", "bias"))
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
        if i in VGG_FACE_TAPS:
            found.append(x)
    return found


def _nearest(vertices: Tensor, points: Tensor, chunk: int) -> Tensor:
    """(V,) number of the point nearest to each vertex."""
    if not points.is_cuda:
        try:
            from scipy.spatial import KDTree
        except ImportError:
            pass
        else:
            return torch.from_numpy(KDTree(points.numpy()).query(vertices.numpy())[1])
    return torch.cat([torch.cdist(part, points).argmin(1) for part in vertices.split(chunk)])

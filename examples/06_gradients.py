"""The renderer is differentiable, on the CPU too: learn the colours of Gaussians from one picture.

Needs PyTorch. Run 01_photo_to_avatar.py first.
"""

from dataclasses import fields

import torch

from headsplat import Gaussians, load_avatar, rasterize
from headsplat.playback import portrait_camera

avatar = load_avatar("me.avatar")
camera = portrait_camera(avatar, size=256)
cloud = Gaussians(*(torch.from_numpy(getattr(avatar.gaussians, f.name)) for f in fields(Gaussians)))
target = rasterize(cloud, camera).image

colors = torch.full_like(cloud.features, 0.5, requires_grad=True)
optimizer = torch.optim.Adam([colors], lr=0.05)
for step in range(40):
    grey = Gaussians(cloud.means, cloud.quats, cloud.scales, cloud.opacities, colors)
    loss = (rasterize(grey, camera).image - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 13 == 0:
        print(f"step {step:2}: {-10 * torch.log10(loss).item():.1f} dB")

"""What of an avatar was photographed, and what was guessed? Run 01_photo_to_avatar.py first."""

import numpy as np

from headsplat import load_avatar
from headsplat.contact_sheet import arrange, sheet_tiles, with_seen_legend
from headsplat.data.image import write_image
from headsplat.playback import paint_seen

avatar = load_avatar("me.avatar")
write_image("seen.png", with_seen_legend(arrange(sheet_tiles(paint_seen(avatar), size=192))))

size = np.sqrt(avatar.gaussians.scales).prod(1)  # large Gaussians count more
print(f"{np.average(avatar.seen, weights=size):.0%} of the avatar was in the photo")

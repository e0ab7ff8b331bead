"""A photo becomes an avatar file, and the file becomes a picture from the side.

Takes about ten seconds on two cores. Give your own photo as the first argument.
"""

import sys

import numpy as np
from skimage.data import astronaut

from headsplat import load_avatar, reconstruct, save_avatar
from headsplat.data.image import write_image
from headsplat.playback import draw, portrait_camera

photo = sys.argv[1] if len(sys.argv) > 1 else astronaut()

avatar = reconstruct(photo, gaussians="20k")
print(f"{len(avatar)} Gaussians in {avatar.info['seconds']:.1f} s, fit {avatar.info['source_psnr']:.1f} dB")
save_avatar(avatar, "me.avatar")

# From here on nothing but numpy is needed: this is all that a player does.
avatar = load_avatar("me.avatar")
smiling = avatar.animate({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}, {"head": (0.0, 0.2, 0.0)})
write_image("me.png", draw(smiling, portrait_camera(avatar, yaw=np.radians(25))))

"""Drive an avatar with a Live Link Face recording from an iPhone. Run 01_photo_to_avatar.py first.

Without a recording as the first argument, one is made up, so that the example runs anywhere.
"""

import sys

from headsplat import load_avatar, take
from headsplat.data.arkit_csv import read_arkit_csv, write_arkit_csv
from headsplat.data.video import VideoWriter
from headsplat.motion import neutral_of, resample, retarget, smooth
from headsplat.playback import play

if len(sys.argv) < 2:
    write_arkit_csv(take("speak", fps=60), "take.csv")
motion = read_arkit_csv(sys.argv[1] if len(sys.argv) > 1 else "take.csv")

# The driver's resting face becomes the avatar's, brows count double, and the phone's jitter goes.
motion = retarget(motion, neutral_of(motion), gain={"brows": 2.0})
motion = resample(smooth(motion, seconds=0.03), fps=25)

with VideoWriter("driven.mp4", fps=motion.fps) as video:
    for frame in play(load_avatar("me.avatar"), motion, size=384, background=(0.2, 0.25, 0.3)):
        video.write(frame)

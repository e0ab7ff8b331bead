"""Play a built-in take to a video, with the camera swinging gently. Run 01_photo_to_avatar.py first."""

from headsplat import load_avatar, take
from headsplat.data.video import VideoWriter
from headsplat.playback import play

avatar = load_avatar("me.avatar")
motion = take("hello")  # or "speak", or "range": every expression in turn

with VideoWriter("hello.mp4", fps=motion.fps) as video:
    for frame in play(avatar, motion, size=512, orbit=20):
        video.write(frame)
print(f"hello.mp4: {motion.seconds:.1f} seconds")

"""From a picture or a video of a person to the parameters of the head model.

Importing this package is cheap; MediaPipe, OpenCV and the matting load at the first call.
"""

from headsplat.track.photo import track_photo

__all__ = ["track_photo"]

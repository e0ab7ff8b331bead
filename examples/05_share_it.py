"""Give an avatar away: a page that plays anywhere, and files for other programs.

Run 01_photo_to_avatar.py first.
"""

from pathlib import Path

from headsplat import load_avatar
from headsplat.export import export

avatar = load_avatar("me.avatar")
for name in ("me.html", "me.ply", "me.spz", "me.glb"):
    export(avatar, name)
    print(f"{name}: {Path(name).stat().st_size / 1e6:.1f} MB")

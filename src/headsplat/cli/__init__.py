"""The command line: each verb is a plain function in here, and its signature is its options."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import tyro

# Each of these adds its verbs to the application, in the order in which `headsplat --help` lists them.
# isort: off
from headsplat.cli import make, show, data, train, judge

# isort: on
from headsplat.cli.app import app
from headsplat.cli.words import understand
from headsplat.errors import HeadsplatError
from headsplat.terminal import fail, hush, mute

__all__ = ["app", "data", "judge", "main", "make", "show", "train"]


_EXTRAS = {"torch": "torch", "gsplat": "cuda", "starlette": "web", "uvicorn": "web", "tensorboard": "train"}
_SYSTEM = {
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
}
"""Libraries that OpenCV wants, to the packages that hold them; bare containers lack them."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user can put it right, 130 stopped by Ctrl-C.

    Args:
        arguments: the words after `headsplat`; default those of this process.
    """
    _unwind_when_told_to_stop()
    hush()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app.cli(
            args=understand(words),
            prog="headsplat",
            description="Animatable 3D Gaussian head avatars: a photo in, a moving head out.",
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except HeadsplatError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "headsplat"):
            raise
        extra = "train" if words[:1] == ["train"] else _EXTRAS.get(package, "create")
        python = os.path.relpath(sys.executable) if sys.executable.startswith(os.getcwd()) else sys.executable
        fail(
            f"This needs the package {package}; install it with `{python} -m pip install "
            f"'headsplat[{extra}]'`."
        )
    except ImportError as error:
        library = re.match(r"(lib[\w.+-]+): cannot open shared object", str(error))
        if library is None:
            raise
        package = _SYSTEM.get(library[1], f"the package that holds {library[1]}")
        fail(f"The system library {library[1]} is missing; on Debian and Ubuntu: apt install {package}.")
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        mute()
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"Cannot use {error.filename} ({error.strerror}); check the name and its permissions.")
    except MemoryError:
        fail("There is not enough memory for this; close other programs, or ask for less.")
    except KeyboardInterrupt:
        print("headsplat: stopped; nothing was left half written.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _unwind_when_told_to_stop() -> None:
    """Let a polite kill, or a closing terminal, unwind like Ctrl-C, so that half-written files go away."""
    for name, status in (("SIGTERM", 143), ("SIGHUP", 129)):
        kind = getattr(signal, name, None)
        if kind is not None and signal.getsignal(kind) is not signal.SIG_IGN:  # nohup
            signal.signal(kind, lambda *_, status=status: sys.exit(status))

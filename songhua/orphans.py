"""A supervised process never outlives its supervisor, also when that was killed with SIGKILL.

On Linux the kernel sends the signal at once (`PR_SET_PDEATHSIG`); elsewhere, and as a second net, a thread watches the
parent's process id. SIGKILL is safe for every process of ours: what was acknowledged is in the journal.
"""

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.5  # s


def die_with_parent(parent: int) -> None:
    """Kill this process as soon as `parent`, which started it, is gone; to be called first, from the main thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)

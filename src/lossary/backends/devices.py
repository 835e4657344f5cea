"""Whether this machine has a device that a study names, told from the operating system: no framework is imported.

    lacking_device("cuda:7")        # "device cuda:7 is not here: this machine shows 1 NVIDIA GPU"

It speaks only where it is sure; a worker that starts finds out the rest.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["lacking_device"]

_NVIDIA = ("cuda", "gpu")
# Other drivers under which frameworks say "cuda" or "gpu": ROCm, WSL, Jetson.
_OTHERS = ("kfd", "dxg", "nvmap", "nvhost-*")


def lacking_device(
    device: str | None, *, found: Callable[[str], int] | None = None, platform: str = sys.platform
) -> str | None:
    """Why this machine cannot have a device; None if it may. `found` counts device files that a pattern names."""
    kind, _, number = (device or "cpu").partition(":")
    if kind == "mps" and platform != "darwin":
        return f"device {device} is not here: it is one of macOS"
    if kind not in _NVIDIA:
        return None
    if platform == "darwin":
        return f"device {device} is not here: macOS has none of its kind"
    if platform != "linux":
        return None
    count = found or (lambda pattern: len(list(Path("/dev").glob(pattern))))
    if any(count(pattern) for pattern in _OTHERS):
        return None
    gpus = count("nvidia[0-9]*")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and visible is not None:
        # What stands behind a number that is no device of the machine is not counted by the driver.
        named = visible.split(",")
        stop = next((place for place, name in enumerate(named) if name.strip() in ("", "-1")), len(named))
        if int(number or 0) < stop:
            return None
        return f"device {device} is not here: CUDA_VISIBLE_DEVICES is {visible!r}"
    if int(number or 0) < gpus:
        return None
    shown = "no GPU" if not gpus else f"{gpus:,} NVIDIA GPU{'s' if gpus > 1 else ''}"
    return f"device {device} is not here: this machine shows {shown}"

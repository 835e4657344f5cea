"""The healthy sides of the benchmark, for cases that change one thing of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "user"))


def torch_side(setup):
    from adapter_torch import TorchSide

    return TorchSide(setup)


def keras_side(setup):
    from adapter_keras import KerasSide

    return KerasSide(setup)

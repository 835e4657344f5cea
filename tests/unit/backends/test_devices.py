"""Devices that a machine cannot have are known before anything starts; where it is not sure, nothing is said."""

from collections.abc import Callable

import pytest

from lossary.backends.devices import lacking_device


def having(**devices: int) -> Callable[[str], int]:
    return lambda pattern: devices.get(pattern.partition("[")[0].partition("-")[0], 0)


@pytest.mark.parametrize(
    ("device", "platform", "devices", "said"),
    [
        (None, "linux", {}, None),
        ("cpu", "linux", {}, None),
        ("cuda", "linux", {}, "no GPU"),
        ("cuda:7", "linux", {"nvidia": 1}, "1 NVIDIA GPU"),
        ("gpu:2", "linux", {"nvidia": 2}, "2 NVIDIA GPUs"),
        ("cuda:1", "linux", {"nvidia": 2}, None),
        ("cuda", "linux", {"nvidia": 1}, None),
        ("cuda:7", "linux", {"kfd": 1}, None),
        ("cuda:7", "linux", {"dxg": 1}, None),
        ("cuda", "darwin", {}, "macOS"),
        ("mps", "linux", {}, "macOS"),
        ("mps", "darwin", {}, None),
        ("cuda", "win32", {}, None),
        ("tpu:3", "linux", {}, None),
        ("xpu", "linux", {}, None),
    ],
)
def test_what_a_machine_lacks(
    device: str | None, platform: str, devices: dict[str, int], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = lacking_device(device, found=having(**devices), platform=platform)
    assert found is None if said is None else said in (found or "")


@pytest.mark.parametrize(
    ("visible", "device", "there"),
    [
        ("0,1", "cuda:1", True),
        ("3", "cuda:0", True),
        ("3", "cuda:1", False),
        ("", "cuda", False),
        ("-1", "cuda", False),
    ],
)
def test_devices_that_the_environment_hides(
    visible: str, device: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = lacking_device(device, found=having(nvidia=8), platform="linux")
    assert (found is None) == there
    assert there or "CUDA_VISIBLE_DEVICES" in (found or "")

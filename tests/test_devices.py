"""Detection of GPUs and busy CPU cores without importing torch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jigsaw import devices
from jigsaw.devices import CoreTimes, busy_line, gpu_names


@pytest.fixture
def driver(monkeypatch):
    """A driver that lists four GPUs, and a torch build with CUDA."""
    monkeypatch.setattr(devices, "driver_gpus", lambda: ["A", "B", "C", "D"])
    monkeypatch.setattr(devices, "torch_build", lambda: "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu_names.cache_clear()
    yield
    gpu_names.cache_clear()


@pytest.mark.parametrize(
    "visible, expected",
    [
        (None, ("A", "B", "C", "D")),
        ("", ()),
        ("-1", ()),
        ("2", ("C",)),
        ("3, 1", ("D", "B")),
        ("1,-1,2", ("B",)),
        ("0,7,1", ("A",)),
        ("GPU-8932f937-d72c", ("A",)),
        ("MIG-a,MIG-b", ("A", "A")),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(driver, monkeypatch, visible, expected):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == expected


def test_a_torch_build_without_cuda_uses_no_gpu(driver, monkeypatch):
    monkeypatch.setattr(devices, "torch_build", lambda: "cpu")
    assert gpu_names() == ()


def test_the_build_of_torch_is_read_without_importing_it():
    import torch

    assert devices.torch_build() == (torch.version.cuda or torch.version.hip or "cpu")


NOW = CoreTimes(at=100.0, busy=500.0, own=10.0, all_cores=True)


@pytest.mark.parametrize(
    "busy, own, load, line",
    [
        (2.0, 0.0, 3.1, "This machine is busy (load 3.1 on 2 cores): expect the run to take longer."),
        (1.0, 0.0, 0.4, "This machine is busy (load 1.0 on 2 cores): expect the run to take longer."),
        (1.0, 1.0, 3.1, None),  # this process used the cores; the load is the average of the last minute
        (0.2, 0.0, 3.1, None),
    ],
)
def test_a_machine_is_reported_as_busy_when_other_processes_use_its_cores(monkeypatch, busy, own, load, line):
    before = replace(NOW, at=NOW.at - 1, busy=NOW.busy - busy, own=NOW.own - own)
    monkeypatch.setattr(CoreTimes, "now", classmethod(lambda cls: NOW))
    monkeypatch.setattr(devices.time, "monotonic", lambda: NOW.at)
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    monkeypatch.setattr(devices.os, "getloadavg", lambda: (load, 0, 0))
    assert busy_line(before) == line


def test_the_core_times_of_this_machine_are_read():
    first = CoreTimes.now()
    if first is None:
        pytest.skip("the system keeps no such clocks")
    second = CoreTimes.now()
    assert second.at >= first.at and second.busy >= first.busy > 0


def test_nothing_is_reported_without_core_times():
    assert busy_line(None) is None

"""How many cores: what the system says, and what control groups leave of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taxon.core import cores
from taxon.core.cores import available_cores, share_of_cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups lie; a machine with eight cores."""
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(cores, "_GROUPS", root)
    monkeypatch.setattr(cores, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return root


def _version_2(root: Path, own: str, limits: dict[str, str]) -> None:
    (root.parent / "own").write_text(f"0::{own}\n")
    for group, limit in limits.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / "cpu.max").write_text(f"{limit}\n")


def _version_1(root: Path, own: str, limits: dict[str, int]) -> None:
    (root.parent / "own").write_text(
        f"4:memory:/elsewhere\n2:cpu,cpuacct:{own}\n1:name=systemd:/\n"
    )
    for group, quota in limits.items():
        (root / "cpu" / group).mkdir(parents=True, exist_ok=True)
        (root / "cpu" / group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (root / "cpu" / group / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("50000 25000", 2),
        ("350000 100000", 3),  # a fourth thread would use up the time of all
        ("50000 100000", 1),
        ("6400000 100000", 8),
    ],
)
def test_a_container_has_the_cores_that_its_limit_is_worth(
    groups: Path, limit: str, expected: int
) -> None:
    _version_2(groups, "/", {".": limit})
    assert available_cores() == expected


def test_the_smallest_limit_of_the_groups_above_holds(groups: Path) -> None:
    _version_2(groups, "/pods/one", {"pods/one": "600000 100000", "pods": "300000 100000"})
    assert available_cores() == 3


def test_control_groups_of_the_first_version(groups: Path) -> None:
    _version_1(groups, "/docker/one", {".": -1, "docker": -1, "docker/one": 250000})
    assert available_cores() == 2


def test_a_path_of_the_host_is_no_hindrance(groups: Path) -> None:
    # So it is in a container of the first version: its own group is mounted as the root.
    _version_1(groups, "/kubepods/pod/one", {".": 150000})
    assert available_cores() == 1


def test_without_control_groups_it_is_what_the_system_says(groups: Path) -> None:
    assert available_cores() == 8  # no list of groups
    (groups.parent / "own").write_text("0::/user.slice\n")
    assert available_cores() == 8  # a list, but nothing of time in it


def test_processes_that_train_together_share_the_limit(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "local_process_count", lambda: 2)
    _version_2(groups, "/", {".": "500000 100000"})
    assert share_of_cores() == 2

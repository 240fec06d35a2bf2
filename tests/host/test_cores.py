import math
import os
from pathlib import Path

import pytest

from service.host.cores import quota_cores, usable_cores

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
V1, V2 = "4:cpu,cpuacct:", "0::"


class Tree:
    """A made-up /proc/self and the cgroup hierarchies that it names."""

    def __init__(self, path: Path) -> None:
        self.proc = path / "proc"
        self.proc.mkdir()
        self.v1, self.v2 = path / "v1 cpu", path / "v2"
        self.put_in_group("/", V1, V2)
        self.mount()

    def put_in_group(self, group: str, *hierarchies: str) -> None:
        lines = ["11:memory:/other", *(hierarchy + group for hierarchy in hierarchies)]
        (self.proc / "cgroup").write_text("\n".join(lines) + "\n")

    def mount(self, root: str = "/") -> None:
        v1 = str(self.v1).replace(" ", "\\040")
        (self.proc / "mountinfo").write_text(
            f"22 1 0:20 / /proc rw shared:5 - proc proc rw\n"
            f"32 31 0:29 {root} {v1} rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
            f"33 31 0:30 / {self.v1.parent / 'memory'} rw - cgroup cgroup rw,memory\n"
            f"41 31 0:38 {root} {self.v2} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        )

    def limit_v1(self, group: str, quota: object, period: object = 100_000) -> None:
        folder = self.v1 / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")

    def limit_v2(self, group: str, content: str) -> None:
        folder = self.v2 / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(content)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", math.inf),
        ("200000 100000\n", 2),
        ("350000 100000\n", 3.5),
        ("5000 10000\n", 0.5),
        ("900000 50000\n", 18),
        ("", math.inf),
        ("many\n", math.inf),
        ("200000\n", math.inf),
        ("200000 0\n", math.inf),
    ],
)
def test_the_quota_of_a_container_counts(tree: Tree, content: str, cores: float) -> None:
    tree.limit_v2(".", content)
    assert quota_cores(tree.proc) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [(-1, 100_000, math.inf), (250_000, 100_000, 2.5), (50_000, 100_000, 0.5), ("?", "?", math.inf)],
)
def test_a_quota_of_cgroup_v1_counts_too(tree: Tree, quota: object, period: object, cores: float) -> None:
    tree.limit_v1(".", quota, period)
    assert quota_cores(tree.proc) == cores


def test_a_tighter_parent_group_counts(tree: Tree) -> None:
    tree.put_in_group("/pod/box", V2)
    tree.limit_v2("pod/box", "400000 100000")
    assert quota_cores(tree.proc) == 4
    tree.limit_v2("pod", "300000 100000")
    assert quota_cores(tree.proc) == 3
    tree.limit_v2("other", "100000 100000")
    assert quota_cores(tree.proc) == 3


def test_a_tighter_parent_group_of_cgroup_v1_counts_too(tree: Tree) -> None:
    tree.put_in_group("/pod/box", V1)
    tree.limit_v1("pod/box", -1)
    tree.limit_v1("pod", 300_000)
    tree.limit_v1(".", 500_000)
    assert quota_cores(tree.proc) == 3


def test_the_tighter_of_two_hierarchies_counts(tree: Tree) -> None:
    tree.put_in_group("/box", V1, V2)
    tree.limit_v1("box", 600_000)
    tree.limit_v2("box", "700000 100000")
    assert quota_cores(tree.proc) == 6
    tree.limit_v2("box", "500000 100000")
    assert quota_cores(tree.proc) == 5


def test_a_group_that_is_mounted_alone_is_found(tree: Tree) -> None:
    # As in a container without a cgroup namespace.
    tree.put_in_group("/docker/abc/inner", V1)
    tree.mount("/docker/abc")
    tree.limit_v1("inner", 400_000)
    assert quota_cores(tree.proc) == 4
    tree.limit_v1(".", 200_000)
    assert quota_cores(tree.proc) == 2


def test_a_group_outside_the_mount_counts_as_the_mounted_one(tree: Tree) -> None:
    tree.put_in_group("/elsewhere", V2)
    tree.mount("/docker/abc")
    tree.limit_v2(".", "200000 100000")
    assert quota_cores(tree.proc) == 2


def test_missing_or_invalid_files_set_no_limit(tree: Tree, tmp_path: Path) -> None:
    assert quota_cores(tree.proc) == math.inf
    assert quota_cores(tmp_path / "nowhere") == math.inf
    for name in ("cgroup", "mountinfo"):
        (tree.proc / name).write_bytes(b"\xff\x00 - :\n\n:::\n- - -\n")
    assert quota_cores(tree.proc) == math.inf


def test_without_a_quota_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == AFFINITY


@pytest.mark.parametrize(("quota", "cores"), [(0.01, 1), (1.9, 1), (AFFINITY + 0.5, AFFINITY)])
def test_the_tighter_limit_counts_rounded_down_but_at_least_one(tree: Tree, quota: float, cores: int) -> None:
    tree.limit_v2(".", f"{quota * 100_000:.0f} 100000")
    assert usable_cores(tree.proc) == cores

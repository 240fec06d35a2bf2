"""A real service in a real control group."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from service.bundle.folder import Bundle
from tests.system.processes import serving

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@contextlib.contextmanager
def group(hierarchy: Path, limit: Callable[[Path], None]) -> Iterator[Path]:
    """Create a control group, limited by `limit` to one and a half cores."""
    folder = hierarchy / f"edgewise-test-{uuid4()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"a control group can't be made in {hierarchy}: {error.strerror}")
    try:
        try:
            limit(folder)
        except OSError as error:
            pytest.skip(f"a control group of {hierarchy} can't be limited: {error.strerror}")
        yield folder
    finally:
        folder.rmdir()


def limit_v1(folder: Path) -> None:
    (folder / "cpu.cfs_period_us").write_text("100000")
    (folder / "cpu.cfs_quota_us").write_text("150000")


def limit_v2(folder: Path) -> None:
    if "cpu" not in (folder / "cgroup.controllers").read_text().split():
        pytest.skip(f"{folder.parent} does not control the processor")
    (folder / "cpu.max").write_text("150000 100000")


@pytest.mark.skipif(CORES < 2, reason="there is one core in any case")
@pytest.mark.parametrize(
    ("marker", "limit", "hierarchies"),
    [
        pytest.param(
            "cpu.cfs_quota_us", limit_v1, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"], id="v1"
        ),
        pytest.param("cgroup.controllers", limit_v2, ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], id="v2"),
    ],
)
def test_a_service_in_a_group_with_a_quota_has_fewer_workers(
    colours: Bundle, marker: str, limit: Callable[[Path], None], hierarchies: list[str]
) -> None:
    mounted = [Path(path) for path in hierarchies if (Path(path) / marker).exists()]
    if not mounted:
        pytest.skip(f"no such hierarchy at {' or '.join(hierarchies)}")
    with group(mounted[0], limit) as folder:
        enter = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs")]
        with serving(prefix=enter, bundle=colours.path) as service:
            assert service.line("ready")["workers"] == 1

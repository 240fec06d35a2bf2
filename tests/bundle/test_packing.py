"""Packed files of bundles, valid and damaged ones."""

import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from build.packing import pack
from service.bundle.packing import unpack, zstd
from service.errors import BundleError
from tests.packed import CONTENT, streamed

PACKED = pack(CONTENT)
ZEROS = bytes(1 << 20)
ROOT = Path(__file__).parents[2]
DAMAGED = "Unable to decompress Zstandard data: .+"
CUT = "it ends before its Zstandard frame does"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite.zst"


def test_unpacking_gives_the_packed_content(file: Path) -> None:
    assert len(PACKED) < len(CONTENT) / 2
    file.write_bytes(PACKED)
    assert unpack(file, len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", CUT),
        (PACKED[: len(PACKED) // 2], CUT),
        (PACKED[:-1], CUT),
        (PACKED + b"\0", DAMAGED),
        (PACKED + pack(b"\0")[:-1], CUT),
        (PACKED + PACKED, r"it holds more than the 128000 bytes that the manifest gives"),
        (CONTENT, DAMAGED),
        (PACKED[:8] + b"\xff" * 8 + PACKED[16:], DAMAGED),
        (pack(CONTENT[:-1]), r"it holds 127999 bytes, but the manifest says 128000"),
        (pack(CONTENT + b"\0"), r"it holds more than the 128000 bytes that the manifest gives"),
        (streamed(1), r"it holds more than the 128000 bytes that the manifest gives"),
    ],
    ids=[
        "empty",
        "half",
        "short",
        "longer",
        "cut second frame",
        "twice",
        "plain",
        "damaged",
        "fewer",
        "more",
        "without a size",
    ],
)
def test_a_bad_file_is_reported_in_one_line(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(
        BundleError, match=rf"model\.tflite\.zst can't be unpacked: {message}; build the bundle again$"
    ):
        unpack(file, len(CONTENT))


def test_a_missing_file_is_reported(file: Path) -> None:
    with pytest.raises(BundleError, match=r"zst: No such file or directory; copy the bundle again"):
        unpack(file, 1)


def test_a_size_that_no_model_can_have_is_refused(file: Path) -> None:
    file.write_bytes(PACKED)
    with pytest.raises(
        BundleError, match=rf"the manifest says {10**30} bytes, but a \.tflite has at most \d+"
    ):
        unpack(file, 10**30)


def test_too_little_memory_for_a_file_is_reported(file: Path) -> None:
    file.write_bytes(streamed(512))
    program = (
        "import resource, sys, service.bundle.packing as packing\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "try: packing.unpack(packing.Path(sys.argv[1]), 512 << 20)\n"
        "except packing.BundleError as error: print(error)"
    )
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, file], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == (
        f"{file} can't be unpacked: there is no memory for the 536870912 bytes that the manifest gives; use"
        " another variant\n"
    )


def test_a_decompression_bomb_takes_no_more_memory_than_the_model(file: Path) -> None:
    file.write_bytes(streamed(256))
    assert file.stat().st_size < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="more than the 1000000 bytes"):
            unpack(file, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_window_that_the_model_does_not_need_is_not_allocated(file: Path) -> None:
    """A frame may ask for a large window, whose memory tracemalloc does not see; it is refused beforehand."""
    file.write_bytes(streamed(1, window_log=24))
    with pytest.raises(BundleError, match=r"requires too much memory"):
        unpack(file, len(ZEROS))
    file.write_bytes(streamed(1, window_log=23))
    assert unpack(file, len(ZEROS)) == ZEROS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    content=st.binary(max_size=2000),
    repeats=st.integers(1, 50),
    start=st.integers(0, 2100),
    inserted=st.binary(max_size=30),
    removed=st.integers(0, 2100),
    size=st.one_of(st.none(), st.integers(0, 10**12)),
)
def test_any_file_unpacks_to_the_wanted_size_or_is_refused(
    file: Path, content: bytes, repeats: int, start: int, inserted: bytes, removed: int, size: int | None
) -> None:
    whole = content * repeats
    packed = zstd.compress(whole, 1)  # At the fastest level.
    packed = packed[:start] + inserted + packed[start + removed :]
    file.write_bytes(packed)
    wanted = len(whole) if size is None else size
    with suppress(BundleError):
        assert len(unpack(file, wanted)) == wanted


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(packed=st.binary(max_size=500), size=st.integers(1, 1000))
def test_noise_is_refused(file: Path, packed: bytes, size: int) -> None:
    file.write_bytes(b"\x28\xb5\x2f\xfd" + packed)
    with suppress(BundleError):
        assert len(unpack(file, size)) == size

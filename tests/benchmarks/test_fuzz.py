"""Damaged files through every reader: nothing but an error of ours comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NEEDED = {"dicom": "pydicom", "archive": "pydicom", "settings": "pydantic"}


@pytest.fixture(scope="module")
def fuzz(script: Callable[[str], Any]) -> Any:
    return script("fuzz")


def damage(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes replaced by others at places between 0 (the first one) and 1 (the last one)."""
    for share, length, other in edits:
        place = int(share * len(content))
        content = content[:place] + other + content[place + length :]
    return content


EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0, 1, 1, 2, 4, 8, 64, 10**6]),
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\xff" * 4, b"\0" * 8, b"-1", b"9" * 20, b"nan", b"\n", b"../"]),
    ),
)


@pytest.mark.parametrize("target", ["image", "dicom", "archive", "model", "settings"])
def test_seeds_reach_what_reads_them(target: str, fuzz: Any, tmp_path: Path) -> None:
    """The first one is valid."""
    pytest.importorskip(NEEDED.get(target, "numpy"))
    seeds, reader = fuzz.TARGETS[target]
    reader(next(seeds()), tmp_path)


def test_coverage_is_measured(fuzz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is imported while atheris instruments imports."""
    events: list[str] = []

    @contextmanager
    def instrument_imports(include: list[str]) -> Iterator[None]:
        events.append("instrumented")
        yield
        events.append("imported")

    atheris = SimpleNamespace(
        instrument_imports=instrument_imports,
        Setup=lambda *_: events.append("set up"),
        Fuzz=lambda: events.append("fuzzed"),
    )
    monkeypatch.setattr(fuzz, "atheris", atheris, raising=False)
    monkeypatch.setattr(fuzz, "attempt", lambda *_: events.append("read"))
    monkeypatch.setattr("sys.argv", ["fuzz.py", "model"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fuzz.main()
    assert events == ["instrumented", "read", "imported", "set up", "fuzzed"]


@pytest.mark.parametrize("target", ["image", "dicom", "archive", "model", "settings"])
def test_damaged_files(target: str, fuzz: Any) -> None:
    pytest.importorskip(NEEDED.get(target, "numpy"))
    seeds, reader = fuzz.TARGETS[target]
    valid = list(seeds())
    for content in valid:
        fuzz.attempt(reader, content)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(valid), st.lists(EDIT, min_size=1, max_size=3))
    def check(content: bytes, edits: list[tuple[float, int, bytes]]) -> None:
        fuzz.attempt(reader, damage(content, edits))

    check()

"""The host's share of the time, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pmtool.sampling.lane_cache import LaneCache


def test_command(
    script: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every window of every pair is prepared, after one batch for the lanes."""
    counts, generate = list[int](), LaneCache.generate

    def counted(cache: LaneCache, group: Any, batch: Any, *rest: Any) -> None:
        counts.append(len(batch))
        generate(cache, group, batch, *rest)

    monkeypatch.setattr(LaneCache, "generate", counted)
    main = script("host_time").main
    main(["--pairs", "2", "--size", "96"], standalone_mode=False)
    assert counts == [2, 2, 2, 2, 2]
    assert " s for 2 pairs, " in capsys.readouterr().out

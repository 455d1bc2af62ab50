import sys

import pytest

from pmtool.console import progress_bar


def test_progress_is_for_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar(quiet=False) as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(quiet=True) as progress:
        assert progress is None
    with progress_bar(quiet=False) as progress:
        assert progress is not None
        assert capsys.readouterr().err == ""
        for done in (0.5, 1.25, 4):
            progress(done, 4)
    told = capsys.readouterr()
    assert told.out == ""
    assert "12%" in told.err
    assert "100%" in told.err

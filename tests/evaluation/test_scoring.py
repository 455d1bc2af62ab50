"""All measures of one slice, and the arrays and summaries made of them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.evaluation import plots, texture
from pmtool.evaluation.results import Results, collect
from pmtool.evaluation.scan import ScanSlice
from pmtool.evaluation.scoring import REFERENCE, Scores, Task, score
from pmtool.evaluation.store import Store
from pmtool.evaluation.summary import intervals, left_out, summary
from pmtool.evaluation.tables import tables
from pmtool.evaluation.verdict import verdict

pytest.importorskip("cv2")
pytest.importorskip("skimage")


def white(deviation: float, seed: int) -> NDArray[np.int16]:
    """Soft tissue with noise."""
    return np.random.default_rng(seed).normal(40, deviation, (72, 72)).astype(np.int16)


@pytest.fixture(scope="module")
def scores() -> dict[str, Scores]:
    truth = white(20, 0)
    results = {REFERENCE: truth, "same": truth, "smooth": white(10, 1), "low": truth - 2000}
    region = np.zeros(truth.shape, np.bool_)
    region[10:60, 10:60] = True
    return score(Task(white(20, 2), truth, white(20, 3), results, region, (0.7, 0.7)))


def test_the_truth_itself(scores: dict[str, Scores]) -> None:
    same, truth = scores["same"], scores[REFERENCE]
    assert same.values["epr"] == truth.values["epr"] == 1
    assert same.values["edge_share"] == 0.5
    assert same.values["psnr"] == math.inf
    assert same.values["ssim"] == pytest.approx(1)
    assert same.values["mae_hu"] == 0
    assert set(same.maps.values()) == {0.0}
    assert same.texture == truth.texture
    assert len(truth.texture) == (56 if texture.is_available() else 0)
    assert truth.maps == {}


def test_noise(scores: dict[str, Scores]) -> None:
    assert scores[REFERENCE].values["odd_even_noise"] == pytest.approx(1, abs=0.1)
    assert scores["smooth"].values["odd_even_noise"] == pytest.approx(0.5, abs=0.05)
    power, half = (np.sum(scores[x].noise_power) for x in (REFERENCE, "smooth"))
    assert half / power == pytest.approx(0.25, rel=0.15)


def test_slices_are_clipped_to_the_range_of_ct(scores: dict[str, Scores]) -> None:
    assert scores["low"].values["noise_hu"] == 0  # -1960 is -1024 everywhere


def test_scores_in_files(scores: dict[str, Scores], tmp_path: Path) -> None:
    scan: Any = SimpleNamespace(digest="", mask_digest=None)
    store = Store(tmp_path)
    store.put(scan, 1, {}, scores["smooth"])
    assert store.get(scan, 1, {}) == scores["smooth"]
    assert store.get(scan, 2, {}) is None


def test_scores_by_another_version_of_a_package(
    scores: dict[str, Scores], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be compared with those of this version, and reported as such."""
    scan: Any = SimpleNamespace(digest="", mask_digest=None)
    Store(tmp_path).put(scan, 1, {}, scores["smooth"])
    monkeypatch.setattr("pmtool.evaluation.store.package_version", lambda package: "0.0.1")
    assert Store(tmp_path).get(scan, 1, {}) is None


def made_up(scans: int, texture_values: NDArray[np.float64]) -> Results:
    """Six slices of a number of scans; method ``near`` has half of the errors of ``far``."""
    rows = []
    for number in range(6):
        truth = {"a": 1.0 + number, "b": 7.0, "c": texture_values[number]}
        both = {
            "near": {"a": truth["a"] + 0.5, "b": 7.5, "c": truth["c"]},
            "far": {"a": truth["a"] + 1.0, "b": 8.0, "c": truth["c"]},
        }
        scored = {REFERENCE: Scores(values_of(0.5), truth, {}, [])}
        for method, share in (("near", 0.48), ("far", 0.54)):
            error = 1.0 if method == "near" else 4.0 + number
            scored[method] = Scores(values_of(share), both[method], {"m": error}, [])
        rows.append((ScanSlice(f"scan {number % scans}", number), scored))
    return collect(rows)


def values_of(share: float) -> dict[str, float]:
    names = ("epr", "psnr", "ssim", "mae_hu", "noise_hu", "odd_even_noise")
    return {"edge_share": share, **dict.fromkeys(names, 1.0)}


def test_summary_by_hand() -> None:
    unknown = np.array([1.0, np.nan, 2.0, 3.0, 4.0, 5.0])
    results = made_up(1, unknown)
    figures = summary(results)
    # Scaled errors: a and b 0 for near and 1 for far; c is equal in both, hence 0.
    assert figures["near"]["texture_nrmse"] == 0
    assert figures["far"]["texture_nrmse"] == pytest.approx(12 / 17)
    variance = 35 / 12
    concordance = 2 * variance / (2 * variance + 1)
    assert figures["far"]["ccc_mean"] == pytest.approx((concordance + 1) / 2)  # b is constant
    assert figures["far"]["ccc_share"] == 1
    assert figures["near"]["msmfe"] == 0
    assert figures["far"]["msmfe"] == pytest.approx(np.mean((np.sqrt(4.0 + np.arange(6)) - 1) / 2))
    assert left_out(results)["constant_features"] == ["b"]
    assert left_out(results)["unknown_texture_values"] == 3
    assert left_out(results)["slices_without_error"] == 0
    results.values["psnr"][1, 2:4] = math.inf
    assert left_out(results)["slices_without_error"] == 2
    low, high = intervals(results)["far"]["texture_nrmse"] or (0, 0)
    assert low <= 12 / 17 <= high


def test_a_feature_without_a_known_error_is_not_plotted(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr(plots, "_svg", figures.append)
    plots.feature_plot(made_up(1, np.full(6, np.nan)))
    near, far = figures[0].axes[0].lines
    assert [list(line.get_xdata()) for line in (near, far)] == [
        pytest.approx([0, 0, np.nan], nan_ok=True),
        pytest.approx([1, 1, np.nan], nan_ok=True),
    ]


def test_tables_by_hand() -> None:
    results = made_up(1, np.arange(6.0))
    found = {t.title.split(".")[0]: t for t in tables(results, summary(results))}
    assert found["Table 1"].pairs == "slices"
    assert found["Table 1"].cell("near", "far") == "100.0"  # 0.48 is nearer to 0.5 than 0.54
    assert found["Table 1"].cell("far", "near") == "0.0"
    assert found["Table 1b"].cell("near", "far") == "-"  # ties alone
    assert found["Table 1b"].notes() == ["6 ties left out"]
    assert found["Table 1"].columns["SD"] == ["0.000", "0.000"]
    errors = found["Table 3"].columns  # of far: (sqrt(4 + number) - 1) / 2
    assert errors["SD"][1] == f"{np.std((np.sqrt(4.0 + np.arange(6)) - 1) / 2, ddof=1):.3f}"
    textures = found["Table 2"].duels["near", "far"]
    assert textures[:4] == (12, 0, 6, 0)
    assert textures.binomial == pytest.approx(2 / 2**12)


def test_scans_are_compared_where_there_are_many() -> None:
    results = made_up(6, np.arange(6.0))
    assert tables(results, summary(results))[0].pairs == "scans"
    assert intervals(results)["far"]["edge_share"] == pytest.approx([0.54, 0.54])
    assert not made_up(5, np.arange(6.0)).by_scan


def test_verdict_names_the_nearest_and_pixelminer() -> None:
    row = {"texture_nrmse": 0.1, "edge_share": 0.47, "mae_hu": 20.0}
    figures: dict[str, dict[str, float | None]] = {
        "pixelminer": {"texture_nrmse": 0.1, "edge_share": 0.49, "mae_hu": 30.0},
        "linear": {**row, "texture_nrmse": 0.3},
        "bspline": {**row, "texture_nrmse": 0.2, "mae_hu": 21.0},
    }
    told = verdict(figures)
    assert "in texture (NRMSE): PixelMiner 0.1, B-spline 0.2;" in told
    assert "(MAE in HU): Linear 20, B-spline 21, PixelMiner 30 in place 3." in told
    for values in figures.values():
        values["texture_nrmse"] = None
    assert "texture" not in verdict(figures)

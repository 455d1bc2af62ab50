"""What a benchmark compares, and what of it cannot run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pmtool.benchmark.options import BenchmarkOptions, Variant, possible_variants
from pmtool.errors import UsageError


def test_options() -> None:
    options = BenchmarkOptions(
        source=Path("folder/scan.nrrd"), backends=("torch", "onnxruntime-cpu"), batches=(1, 8, 1)
    )
    assert options.variants() == [
        Variant("torch", None, 1),
        Variant("torch", None, 8),
        Variant("onnxruntime-cpu", None, 1),
        Variant("onnxruntime-cpu", None, 8),
    ]
    assert BenchmarkOptions().variants() == [Variant(None, None, None)]
    assert str(options.variants()[1]) == "torch, batch 8"
    assert options.command == (
        "pmtool bench --input scan.nrrd --backend torch --backend onnxruntime-cpu "
        "--batch 1 --batch 8 --batch 1"
    )
    assert BenchmarkOptions(peers=True, pairs=2).command == "pmtool bench --pairs 2 --peers"
    limited = BenchmarkOptions(memory=2**30, seed=3)
    assert limited.command == "pmtool bench --memory 1073741824 --seed 3"


def test_seed_is_checked_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="the seed must be a whole number in"):
        BenchmarkOptions(seed=-1)


def test_variants_that_cannot_run() -> None:
    """One of several is left out; what could not be asked for at all is an error."""
    both = BenchmarkOptions(
        device="cpu",
        backends=("onnxruntime-cpu", "torch"),
        precisions=("float32", "bfloat16"),
    )
    possible, refused = possible_variants(both)
    assert [str(variant) for variant in possible] == [
        "onnxruntime-cpu, float32",
        "torch, float32",
        "torch, bfloat16",
    ]
    assert list(refused) == ["onnxruntime-cpu, bfloat16"]
    with pytest.raises(UsageError, match="float32"):
        possible_variants(replace(both, backends=("onnxruntime-cpu",)))
    with pytest.raises(UsageError, match="there is no backend 'tensorflow'"):
        possible_variants(replace(both, backends=("torch", "tensorflow")))

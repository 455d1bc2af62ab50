"""The benchmark's parts on tiny sizes, with a small network in PyTorch in place of a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from pmtool.backends.devices import Gpu
from pmtool.backends.selection import Engine
from pmtool.backends.torch import TorchBackend
from pmtool.benchmark.cached import Clock, TimedBackend, run_cached
from pmtool.benchmark.naive import PassCost, PlainNetwork, TimedNetwork, pass_costs
from pmtool.benchmark.options import BenchmarkOptions, Variant, possible_variants
from pmtool.benchmark.outputs import write_outputs
from pmtool.benchmark.page import page
from pmtool.benchmark.parity import generate_strip, largest_difference
from pmtool.benchmark.peaks import Peak, measure_peak
from pmtool.benchmark.peer_runs import COMPILED, _reason, time_peers
from pmtool.benchmark.picture import draw
from pmtool.benchmark.quality import Quality, qualities
from pmtool.benchmark.report import Report, Run, StripReport, machine
from pmtool.benchmark.scaling import Point, Scaling, measure_scaling
from pmtool.benchmark.scene import make_scene
from pmtool.benchmark.timing import torch_threads
from pmtool.errors import GeometryError, OutputError, UsageError
from pmtool.evaluation import texture
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state
from pmtool.network.inference import ArrayNetwork
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import SlicePair
from pmtool.sampling.sampler import Sampler

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SMALL = Hyperparameters(channels=2, mixtures=2)


@pytest.fixture(scope="module")
def network() -> PixelMiner:
    torch.manual_seed(2)
    return folded_network(SMALL, folded_state(PixelMiner(SMALL)))


def test_scene_of_a_phantom() -> None:
    scene = make_scene(None, 2, 64)
    assert len(scene.pairs) == len(scene.truths) == 2
    assert np.array_equal(scene.pairs[0].below, scene.pairs[1].above)
    assert scene.busiest(64) == (1, 0, 0)


def test_scene_of_a_scan(tmp_path: Path) -> None:
    slices = np.arange(9, dtype=np.int16)[:, None, None] * np.ones((9, 8, 8), np.int16) - 500
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path))
    scene = make_scene(path, 2, 512)
    assert [int(truth[0, 0]) for truth in scene.truths] == [-497, -495]
    assert [int(pair.above[0, 0]) for pair in scene.pairs] == [-498, -496]
    sitk.WriteImage(sitk.GetImageFromArray(slices[:2]), str(path))
    with pytest.raises(GeometryError, match="three or more"):
        make_scene(path, 2, 512)


def test_values_of_a_scan_are_rounded_and_limited(tmp_path: Path) -> None:
    slices = np.full((3, 8, 8), -600.7, np.float32)
    slices[1, 0, 0] = 40_000
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path))
    (truth,) = make_scene(path, 2, 512).truths
    assert (truth[0, 0], truth[4, 4]) == (32767, -601)


def test_parity_and_clocks(network: PixelMiner) -> None:
    scene, clock = make_scene(None, 1, 68), Clock()
    backend = TimedBackend(TorchBackend(network), clock)
    naive = TimedNetwork(network)
    with torch_threads(1):
        pair, truth = scene.pairs[0], scene.truths[0][:64, :64]
        window = pair._replace(above=pair.above[:64, :64], below=pair.below[:64, :64])
        strip = generate_strip(backend, naive, window, truth, 1, 0)
        assert largest_difference(backend, ArrayNetwork(network), pair, 64, 0) < 1e-4
    assert strip.equal >= 63 / 64
    assert strip.largest <= 1
    assert np.array_equal(strip.cached[:-1], truth[:-1].clip(*SMALL.hu_window))
    assert naive.cost().passes == 64
    assert set(clock.seconds) == {"window", "row", "pixel"}


@pytest.mark.parametrize("shares", [True, False])
def test_clock_on_a_gpu(monkeypatch: pytest.MonkeyPatch, shares: bool) -> None:
    """Engines are built before it starts, and only the shares take a second run."""
    happened: list[tuple[str, object]] = []

    class Built(Engine):
        def load(self, bundle: Bundle, device: str, threads: int) -> Any:
            happened.append(("load", device))
            return SimpleNamespace(
                name="x", device=device, precision="float32", memory=None, windows=1, keeps=()
            )

    def generate(sampler: Any, pairs: Sequence[SlicePair], progress: object) -> Any:
        happened.append(("generate", sampler.clock.running))
        yield from ((index, pair.above) for index, pair in enumerate(pairs))

    engine = Built("tensorrt", ("cuda:0", "cuda:1"), "float32")
    monkeypatch.setattr("pmtool.sampling.sampler.working_engines", lambda *asked: iter([engine]))
    monkeypatch.setattr("pmtool.sampling.startup.generate_window", lambda *made: None)
    monkeypatch.setattr("pmtool.sampling.sampler.free_gpu_memory", lambda device: 1 << 30)
    monkeypatch.setattr(Sampler, "generate", generate)
    pairs = make_scene(None, 2, 64).pairs
    run = run_cached(Bundle.load(), SamplerOptions(threads=1), pairs, shares=shares)
    clocked = [("generate", True)] if shares else []
    assert happened == [("load", "cuda:0"), ("load", "cuda:1"), ("generate", False), *clocked]
    assert run.start >= 0
    assert (run.shares is not None) == shares


def test_reference_is_not_in_tf32(network: PixelMiner) -> None:
    """Of the plain network's passes, all in full float32 and by cuDNN."""
    seen = []

    def look(module: object, arguments: object) -> None:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))

    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    hook = network.register_forward_pre_hook(look)
    PlainNetwork(network)(*np.zeros((3, 64, 64), np.float32))
    pass_costs(network, 1)
    hook.remove()
    assert set(seen) == {(True, False)}
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before


def test_costs(network: PixelMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 2)
    before = torch.get_num_threads()
    costs = pass_costs(network, 1)
    assert {(cost.threads, cost.batch, cost.passes) for cost in costs} == {(1, 1, 2), (1, 8, 16)}
    assert costs[0].seconds <= costs[1].seconds
    assert torch.get_num_threads() == before


def test_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both within what any processor of these years does."""
    monkeypatch.setattr("pmtool.benchmark.peaks.GEMM_SIZE", {"cpu": 256})
    monkeypatch.setattr("pmtool.benchmark.peaks.COPY_BYTES", 1 << 24)
    peak = measure_peak("cpu", "float32", 1)
    assert 1e8 < peak.gemm < 1e13
    assert 1e8 < peak.bandwidth < 1e12


def _report() -> Report:
    def run(name: str, window: int, seconds: float) -> Run:
        shares = {"window": 0.25, "row": 0.25, "pixel": 0.25, "driver": 0.25}
        floor = {"window": 0.1, "row": 0.1, "pixel": 0.05}
        size, places = (256, 256), (window, window)
        return Run(name, "x", 2, 2, size, places, 1, 1, seconds, 1, shares=shares, floor=floor)

    strip = StripReport((0, 0, 0), 1, 64, 1.0, 0, {"naive": None}, {"naive": None})
    return Report(
        command="pmtool bench",
        scene="phantom",
        model="m",
        model_hash="0",
        peaks=[Peak("cpu", "float32", 1e10, 2e9)],
        passes=[PassCost(1, 1, 0.1, 64)],
        max_logit_difference={64: 1e-6, 192: 2e-6},
        strip=strip,
        naive=replace(run("naive", 64, 100), passes=64, shares=None, floor=None),
        window_64=run("cached, 64", 64, 2),
        default=run("cached, 192", 192, 1),
        scaling=Scaling(5, {Point(1, 128): 1, Point(1, 256): 3}, [Point(8, 128), Point(8, 256)]),
        left_out={"a peer": "there is no compiler"},
    )


def test_report(tmp_path: Path) -> None:
    path, report = tmp_path / "result.json", _report()
    written = {"json": path, "page": tmp_path / "page.md", "picture": None}
    write_outputs(written, report, report.to_json())
    values = json.loads(path.read_text())
    assert values["speedup"] == 100
    assert values["speedup_window_64"] == 50
    assert values["seconds_per_slice_512"] == 2
    assert values["max_logit_difference"] == 2e-6
    assert values["equal_pixels"] == 1
    assert values["gemm_gflops"] == 10
    wanted = {"device", "backend", "precision", "channels", "pairs", "size", "batch", "seconds"}
    assert all(wanted <= run.keys() for run in values["runs"])
    assert [run["slices_per_second"] for run in values["runs"]] == [0.02, 1, 2]
    assert [run["pixels_per_second"] for run in values["runs"]][1:] == [256**2, 2 * 256**2]
    assert (tmp_path / "page.md").read_text() == page(values)
    with pytest.raises(OutputError):
        write_outputs({**written, "json": tmp_path / "none" / "x"}, report, values)


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems that lack what Linux has, and with a GPU that PyTorch may not see."""
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.delattr("os.getloadavg")
    asked = []

    def find_gpu(device: str) -> Gpu:
        asked.append(device)
        if device == "cuda:1":
            raise UsageError("nvidia-smi does not tell")
        return Gpu("NVIDIA H100", "9.0", "580.65.06")

    monkeypatch.setattr("pmtool.benchmark.report.find_gpu", find_gpu)
    assert machine()["cores"] >= 1
    assert machine()["load"] >= 0
    assert machine()["gpu"] is None
    assert machine("cuda:0,cuda:1")["gpu"] == "NVIDIA H100, driver 580.65.06"
    assert machine("cuda:1")["gpu"] is None
    assert asked == ["cuda:0", "cuda:1"]


def test_page() -> None:
    told = " ".join(page(_report().to_json()).split())
    assert "speed-up 100, at window 64 50" in told
    assert "2 s a 512x512 slice" in told
    assert not any(x in told for x in ("not like with like", "On a GPU", "loading", "In brackets"))
    assert "| cached, 192 | 0.125 (2.5) | 0.125 (2.5) | 0.125 (5) | 0.125 | 0.5 (4) |" in told
    assert "| s / scan, by pairs | 128x128 | 256x256 |" in told
    assert "| 1 | 1 | 3 |" in told
    assert "| 8 | - | - |" in told
    assert "- left out: a peer: there is no compiler" in told


def test_page_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a naive sampler that ran elsewhere, and with times of milliseconds."""
    monkeypatch.setattr("pmtool.benchmark.report.find_gpu", lambda x: Gpu("H100", "9.0", "580"))
    there: dict[str, Any] = {"device": "cuda:0", "precision": "bfloat16", "start": 12.0}
    report = _report()
    report = replace(
        report,
        window_64=replace(report.window_64, **there),
        default=replace(report.default, seconds=0.004, **there),
        quality={"cached, 192": {"epr": Quality(0.5, None, None, None)}},
    )
    told = " ".join(page(report.to_json()).split())
    assert (
        "speed-up 25,000, at window 64 50 (not like with like: naive on cpu in float32, cached on "
        "cuda:0 in bfloat16); 0.008 s a 512x512 slice"
    ) in told
    assert "loading the engines, before the clock: cached, 64 12 s; cached, 192 12 s" in told
    assert "On a GPU shares are of a second run that waits for the end of every graph." in told
    assert "H100, driver 580), load" in told
    assert "| cached, 192 | 0.500 |" in told
    assert not any(x in told for x in ("semicolon", "In brackets", "Errors of texture"))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("cpu-*.json")), ids=lambda path: path.name)
def test_pages_of_results(path: Path) -> None:
    """Every machine's page is that of its JSON."""
    assert path.with_suffix(".md").read_text() == page(json.loads(path.read_text()))


def test_picture() -> None:
    image = Image.open(BytesIO(draw(_report())))
    assert image.format == "PNG"
    assert len(image.getcolors(1 << 20) or []) > 10


def test_scaling_stops_at_its_budget() -> None:
    measured: list[Point] = []

    def generate(pairs: Sequence[SlicePair], point: Point) -> float:
        assert len(pairs) == point.pairs
        assert pairs[-1].above.shape == (point.size, point.size)
        measured.append(point)
        return point.pixels / 128**2

    found = measure_scaling(generate, 7.5)
    assert measured == list(found.seconds) == [Point(1, 128), Point(1, 256)]
    assert found.left_out[0] == Point(8, 128)
    assert len(found.left_out) == 14
    assert len(measure_scaling(generate, 0).seconds) == 1


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


def test_quality() -> None:
    """The truth is perfect, and better than the reference by a sure difference."""
    scene = make_scene(None, 3, 96)
    far = [values[::-1].copy() for values in scene.truths]
    found, left_out = qualities({"far": far, "truth": scene.truths}, scene)
    assert not left_out
    assert set(found["far"]) == {"epr", "edge_share"}
    assert found["truth"]["epr"].mean == 1
    assert found["truth"]["edge_share"].interval == (0.5, 0.5)
    assert found["far"]["epr"].difference is None
    assert found["truth"]["epr"].difference == pytest.approx(1 - found["far"]["epr"].mean)
    interval = found["truth"]["epr"].difference_interval
    assert interval is not None
    assert 0 < interval[0] <= interval[1]


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("radiomics", {"texture": texture.MISSING}),
        ("skimage", {"texture": "finding lungs needs skimage: pip install 'pmtool[evaluate]'"}),
        ("none", {"texture": "there are no lungs in these slices"}),
        ("cv2", {"edges": "Canny needs cv2: pip install 'pmtool[evaluate]'"}),
    ],
)
def test_quality_left_out(
    monkeypatch: pytest.MonkeyPatch, missing: str, why: dict[str, str]
) -> None:
    """What cannot be measured of a scan is named, with the reason."""

    def find_spec(name: str) -> object:
        return None if name == missing else name

    monkeypatch.setattr("pmtool.system.extras.find_spec", find_spec)
    monkeypatch.setattr("pmtool.evaluation.texture.find_spec", find_spec)
    scene = make_scene(None, 1, 64)._replace(real=missing != "cv2")
    scene = scene._replace(truths=[np.zeros_like(values) for values in scene.truths])
    found = qualities({"same": scene.truths}, scene)
    assert found.left_out == why
    assert ("epr" in found.by_run["same"]) == (missing != "cv2")


def test_quality_of_texture() -> None:
    pytest.importorskip("radiomics", reason=texture.MISSING)
    scene = make_scene(None, 2, 256)._replace(real=True)
    blurred = [cv2.blur(truth, (5, 5)).astype(np.int16) for truth in scene.truths]
    found, left_out = qualities({"blurred": blurred, "truth": scene.truths}, scene)
    assert not left_out
    assert found["truth"]["texture_nrmse"].mean == 0
    assert found["blurred"]["texture_nrmse"].mean > 0.1


def test_peers_on_a_strip(network: PixelMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """They make the naive sampler's pixels; without a compiler a row is left out."""

    def no_compiler(network: PixelMiner) -> PixelMiner:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr("torch.compile", no_compiler)
    monkeypatch.setattr("pmtool.benchmark.peer_runs.BATCHES", (1, 2))
    scene = make_scene(None, 2, 64)
    with torch_threads(1):
        backend, plain = TorchBackend(network), ArrayNetwork(network)
        strip = generate_strip(backend, plain, scene.pairs[0], scene.truths[0], 1, 0)
        found = time_peers(network, strip, scene, 0, lambda label, share: None)
    assert list(found.left_out) == [COMPILED]
    assert "g++" in found.left_out[COMPILED]
    assert [(run.batch, run.passes) for run in found.runs] == [(1, 64), (1, 64), (2, 128)]
    assert all((run.equal_pixels or 0) >= 63 / 64 for run in found.runs)
    assert found.runs[1].seconds < found.runs[0].seconds
    assert _reason(RuntimeError()) == "torch.compile fails: RuntimeError"

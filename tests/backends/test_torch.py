"""PyTorch as an engine of the sampler: lower precision, and the same on a GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pmtool.backends import torch as engine
from pmtool.backends.accuracy import TOLERANCES
from pmtool.backends.differences import LANES, SIZE, WINDOWS, graph_errors, random_arrays
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.torch import (
    CapturedProgram,
    Capturing,
    TorchBackend,
    check,
    emulates_bfloat16,
    load,
)
from pmtool.backends.torch_threads import torch_threads
from pmtool.errors import MemoryBudgetError
from pmtool.graphs.pixel import PixelGraph
from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.kernels import cpu
from pmtool.models.bundle import Bundle
from pmtool.network import PixelMiner
from pmtool.network.inference import load_network
from pmtool.phantom.chest import chest_phantom
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import SlicePair
from pmtool.sampling.sampler import Sampler

pytestmark = pytest.mark.usefixtures("one_thread")
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> PixelMiner:
    return load_network(bundle)


@pytest.fixture(scope="module")
def pair() -> SlicePair:
    import SimpleITK as sitk

    above, _, below = sitk.GetArrayFromImage(chest_phantom(64, 3, (5.6, 5.6, 1.25))).clip(-1024)
    return SlicePair(above, below, 0.5, 0)


def generate(bundle: Bundle, pair: SlicePair, **options: Any) -> np.ndarray[Any, Any]:
    ((_, values),) = Sampler(bundle, SamplerOptions(**options)).generate([pair])
    return values.astype(int)


@pytest.fixture(scope="module")
def expected(bundle: Bundle, pair: SlicePair) -> np.ndarray[Any, Any]:
    return generate(bundle, pair, device="cpu")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=gpu)], ids=["cpu", "gpu"])
def test_float32_makes_the_same_slice(
    bundle: Bundle, pair: SlicePair, expected: np.ndarray[Any, Any], device: str
) -> None:
    """But for a pixel at a threshold, which is one grey level off, and those that see it."""
    found = generate(bundle, pair, device=device, backend="torch", precision="float32")
    differences = np.abs(found - expected).ravel()
    assert differences.max() <= 3
    assert differences[differences > 0][:1].sum() <= 1


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "bfloat16"),
        pytest.param("cuda:0", "bfloat16", marks=gpu),
        pytest.param("cuda:0", "float16", marks=gpu),
    ],
)
def test_lower_precision_draws_as_noisy_a_slice(
    bundle: Bundle,
    pair: SlicePair,
    expected: np.ndarray[Any, Any],
    device: str,
    precision: str,
) -> None:
    found = generate(bundle, pair, device=device, backend="torch", precision=precision)
    assert np.mean(found != expected) > 0.1
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    inside = expected[:, 1:] > -1024
    noise = [np.diff(values, axis=1)[inside].std() for values in (found, expected)]
    assert noise[0] == pytest.approx(noise[1], rel=0.05)


def test_a_run_uses_its_own_threads_and_leaves_the_callers(
    bundle: Bundle, pair: SlicePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many an earlier run of the same sampler used."""
    monkeypatch.setattr("pmtool.sampling.options.cpu_count", lambda: 2)
    monkeypatch.setattr("pmtool.sampling.plan.free_memory", lambda: 2**34)
    used, generate = set[int](), Lanes.generate

    def noted(*given: Any) -> Any:
        used.add(torch.get_num_threads())
        return generate(*given)

    monkeypatch.setattr(Lanes, "generate", noted)
    torch.set_num_threads(3)
    small = pair._replace(above=pair.above[:20, :20], below=pair.below[:20, :20])
    sampler = Sampler(bundle, SamplerOptions(backend="torch", device="cpu", memory=2**34))
    for pairs, threads in ((1, 2), (2, 1), (1, 2)):
        used.clear()
        list(sampler.generate([small] * pairs))
        assert used == {threads}
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3


def test_threads_leave_the_callers_number_in_any_order() -> None:
    """A new thread would otherwise start with the number of one that is gone."""
    torch.set_num_threads(3)
    contexts = torch_threads(2), torch_threads(1)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads = list(zip((one, other), contexts, strict=True))
        for thread, context in threads:
            thread.submit(context.__enter__).result()
        for thread, context in threads:
            thread.submit(context.__exit__, None, None, None).result()
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == 3


def test_products_are_taken_in_the_lower_precision(network: PixelMiner) -> None:
    graph = TorchBackend(network, precision="bfloat16").graphs["quantile1"]
    assert isinstance(graph, PixelGraph)
    kinds = {name: buffer.dtype for name, buffer in graph.named_buffers()}
    assert kinds["weights.layers.0.0.first"] == torch.bfloat16
    assert kinds["output.matrix"] == kinds["output.bias"] == torch.float32
    whole = TorchBackend(network).graphs["quantile1"]
    assert {buffer.dtype for buffer in whole.buffers()} == {torch.float32}


@pytest.mark.skipif(cpu.library() is None, reason="no compiled loops")
def test_the_compiled_loops_are_used_on_a_cpu(bundle: Bundle, network: PixelMiner) -> None:
    backend = load(bundle, "cpu", "bfloat16", 1)
    assert backend.loops is not None
    assert not any(map(backend.loops.covers, backend.graphs))
    for graph, error in graph_errors(network, backend).items():
        assert error < (1e-4 if backend.loops.covers(graph) else TOLERANCES["bfloat16"])


def test_onnx_runtime_computes_the_same(bundle: Bundle, network: PixelMiner) -> None:
    errors = graph_errors(network, OnnxRuntimeBackend(bundle))
    assert set(errors) == set(bundle.manifest.errors)
    assert max(errors.values()) < 1e-4


def arrays_of(graph: str, backend: TorchBackend, network: PixelMiner) -> dict[str, Tensor]:
    layout = Layout(network.hyperparameters)
    return random_arrays(graph, Buffers(backend.memory, layout, SIZE, SIZE, LANES, WINDOWS))


def test_the_midpoint_is_exact(network: PixelMiner) -> None:
    """In bfloat16 it would move by several HU."""
    midpoints = []
    for precision in ("float32", "bfloat16"):
        backend = TorchBackend(network, precision=precision)
        arrays = arrays_of("window", backend, network)
        backend.bind("window", arrays).run()
        midpoints.append(arrays["mixture"][..., -2:])
    assert arrays["shares0"].std() > 0
    torch.testing.assert_close(*midpoints, rtol=0, atol=1e-6)


def test_graphs_run_where_their_inputs_are(network: PixelMiner) -> None:
    """Nothing is made on the CPU on the way: PyTorch refuses tensors of two devices."""
    backend = TorchBackend(network, precision="bfloat16")
    for name, graph in backend.graphs.items():
        found = arrays_of(name, backend, network)
        arrays = {key: array.to("meta") for key, array in found.items()}
        graph.to("meta")
        backend.bind(name, arrays).run()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_graphs_on_a_gpu(network: PixelMiner) -> None:
    backend = TorchBackend(network, "cuda:0")
    assert max(graph_errors(network, backend).values()) < TOLERANCES["float32"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_captured_program_is_replayed(network: PixelMiner) -> None:
    backend = TorchBackend(network, "cuda:0")
    arrays = arrays_of("row3", backend, network)
    plain, captured = (dict.fromkeys(("h_shares0", "h_shares1", "h_shares2")) for _ in range(2))
    program = backend.bind("row3", arrays)
    assert isinstance(program, CapturedProgram)
    for results in (plain, captured):
        for name, array in arrays_of("row3", backend, network).items():
            arrays[name].copy_(array)
        program.run()
        backend.memory.wait()
        results.update({name: arrays[name].clone() for name in results})
    for name, values in plain.items():
        torch.testing.assert_close(captured[name], values)


class Captures:
    """Stands in for what PyTorch has for captures, and is the graph of each.

    Attributes
    ----------
    current
        The thread's stream.
    at_the_end
        Error that a capture raises when it ends.
    pools
        Pools of the captures.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.at_the_end, self.pools = "usual", "", list[object]()
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: "for captures")
        monkeypatch.setattr(torch.cuda, "device", nullcontext)
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        for name in ("synchronize", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda: None)

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def capture_begin(self, pool: object, **options: str) -> None:
        self.pools.append(pool)

    def capture_end(self) -> None:
        if self.at_the_end:
            raise RuntimeError(self.at_the_end)

    def pool(self) -> object:
        return self.pools[-1]

    def replay(self) -> None:
        pass


INVALID = "CUDA error: operation failed due to a previous error during capture"


@pytest.mark.parametrize(
    ("first", "at_the_end", "expected"),
    [
        ("CUDA out of memory", INVALID, MemoryBudgetError),
        ("CUDA out of memory", "", MemoryBudgetError),
        (INVALID, INVALID, MemoryBudgetError),
        ("", INVALID, MemoryBudgetError),
        ("CUDA error: an illegal memory access", INVALID, RuntimeError),
    ],
)
def test_a_capture_that_fails(
    first: str,
    at_the_end: str,
    expected: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own error is told, the stream is the usual one again, and no memory is held.

    The next captures work, in another pool: one without any graph cannot be used again.
    """
    captures = Captures(monkeypatch)
    held: list[weakref.ref[Tensor]] = []

    class Program:
        warm, error = False, first

        def run(self) -> None:
            if self.warm:
                tensor = torch.zeros(1)
                held.append(weakref.ref(tensor))
                assert captures.current == "for captures"
                if self.error:
                    raise RuntimeError(self.error)
            self.warm = True

    capturing = Capturing("cuda:0")
    work = Program()
    program = CapturedProgram(work, capturing)  # type: ignore[arg-type]
    program.run()
    captures.at_the_end = at_the_end
    gc.disable()
    try:
        with pytest.raises(expected, match=r"out of memory|illegal"):
            program.run()
        assert held[0]() is None
    finally:
        gc.enable()
    assert captures.current == "usual"
    assert not Capturing.one_at_a_time.locked()
    work.error = captures.at_the_end = ""
    for _ in range(2):
        capturing.capture(work.run)
    assert captures.pools[0] != captures.pools[1] == captures.pools[2]


def test_cudnn_without_memory_for_its_work(
    network: PixelMiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then only says that it has found no way to compute."""
    backend = TorchBackend(network)
    program = backend.bind("window", arrays_of("window", backend, network))

    def fail(*arrays: Tensor) -> None:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(backend.graphs["window"], "forward", fail)
    with pytest.raises(MemoryBudgetError, match="smaller --batch"):
        program.run()


@pytest.mark.filterwarnings("error")
def test_a_cpu_without_bfloat16_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert emulates_bfloat16("cpu") in (True, False)
    assert not emulates_bfloat16("cuda:0")
    for emulated in (True, False):
        monkeypatch.setattr(engine, "emulates_bfloat16", lambda device, told=emulated: told)
        check(("cpu",), "float32")
        with pytest.warns(UserWarning, match="no instructions") if emulated else nullcontext():
            check(("cpu",), "bfloat16")

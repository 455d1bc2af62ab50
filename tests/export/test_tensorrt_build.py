"""NVIDIA's own builder on every graph, without a GPU; and what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from onnx import TensorProto, helper

from pmtool.backends.selection import PRECISIONS
from pmtool.choices import Precision
from pmtool.errors import UsageError
from pmtool.export import tensorrt as building
from pmtool.export.engines import engine_graph
from pmtool.export.profiles import MAX_WINDOWS, profiles, shapes
from pmtool.export.tensorrt import (
    build_engine,
    check_driver,
    check_made_for,
    context_options,
    logger,
    tensorrt,
)
from pmtool.interface.graph_names import GRAPHS
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import COMPACT, PAPER
from pmtool.system.devices import Gpu

GPU = Gpu("NVIDIA H200", "9.0", "570.86.15")


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    reason = "TensorRT-RTX is not installed: pip install 'pmtool[dev]'"
    module: ModuleType = pytest.importorskip("tensorrt_rtx_bindings", reason=reason)
    return module


# Every graph, and every kind of graph in every precision: all of both would take twice as long.
BUILDS = {(name, "bfloat16") for name in GRAPHS} | {
    (name, precision)
    for name in ("window", "row1", "known1", "quantile1", "mean1")
    for precision in PRECISIONS
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), sorted(BUILDS))
def test_every_graph_of_the_default_model(name: str, precision: Precision, rtx: ModuleType) -> None:
    bundle = Bundle.load()
    sizes = profiles(name, bundle.hyperparameters, MAX_WINDOWS)[:1]
    built = build_engine(rtx, name, engine_graph(bundle, name, precision), sizes)
    assert len(built.engine) > 100_000


def test_float32_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no graph, whatever its precision: the encoder's is float32 in all of them."""
    config, engine = Mock(), b"engine"
    builder = Mock()
    builder.create_builder_config.return_value = config
    builder.build_serialized_network.return_value = engine
    config.create_timing_cache.return_value.serialize.return_value = b"timings"
    trt = MagicMock(__name__="tensorrt", Builder=Mock(return_value=builder))
    trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 0
    monkeypatch.setattr(building, "logger", Mock())
    model = engine_graph(Bundle.load(), "window", "bfloat16")
    assert build_engine(trt, "window", model, []) == (engine, b"timings")
    config.clear_flag.assert_called_once_with(trt.BuilderFlag.TF32)


def test_all_profiles_of_a_graph(rtx: ModuleType) -> None:
    bundle = Bundle.load()
    sizes = profiles("known1", bundle.hyperparameters, MAX_WINDOWS)
    model = engine_graph(bundle, "known1", "bfloat16")
    one, all_ = (build_engine(rtx, "known1", model, sizes[:n]).engine for n in (1, 3))
    assert len(all_) > 2 * len(one)


def test_unsupported_node_is_named(rtx: ModuleType) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    node = helper.make_node("Det", ["x"], ["y"], name="the_determinant")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    with pytest.raises(UsageError, match=r"cannot build the graph row1, .*the_determinant \(Det\)"):
        build_engine(rtx, "row1", model, [])


def test_a_thread_sees_only_the_errors_that_may_concern_it(rtx: ModuleType) -> None:
    """Each thread has its GPU; an error in a thread of TensorRT's own may concern any."""
    log = logger(rtx)

    def clear_and_log(message: str) -> list[str]:
        log.errors.clear()
        log.log(rtx.ILogger.ERROR, message)
        return list(log.errors)

    assert clear_and_log("on one GPU") == ["on one GPU"]
    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as own:
        assert other.submit(clear_and_log, "on another").result() == ["on another"]
        own.submit(log.log, rtx.ILogger.INTERNAL_ERROR, "somewhere").result()
        assert log.errors == ["on one GPU", "somewhere"]
        assert other.submit(lambda: log.errors).result() == ["on another", "somewhere"]


def test_kernels_stay_the_same_during_the_work(rtx: ModuleType) -> None:
    """TensorRT-RTX would change to others when these are compiled."""
    engine, options = Mock(), Mock(spec=rtx.IRuntimeConfig)
    engine.create_runtime_config.return_value = options
    assert context_options(rtx, engine) is options
    managed = rtx.ExecutionContextAllocationStrategy.USER_MANAGED
    options.set_execution_context_allocation_strategy.assert_called_once_with(managed)
    strategies = rtx.DynamicShapesKernelSpecializationStrategy
    assert options.dynamic_shapes_kernel_specialization_strategy == strategies.NONE
    trt = MagicMock(__name__="tensorrt")
    assert context_options(trt, None) is trt.ExecutionContextAllocationStrategy.USER_MANAGED


def test_neither_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"TensorRT is not installed: pip install 'pmtool\[gpu\]'"):
        tensorrt()


def installed(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """As if importing a package gave a module, or raised an error."""

    def import_module(name: str) -> Any:
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(building, "find_spec", lambda name: name)
    monkeypatch.setattr(building, "import_module", import_module)


@pytest.mark.parametrize(
    "error",
    [
        OSError("libnvinfer.so.10: cannot open shared object file"),
        ImportError("libnvinfer.so.10: cannot open shared object file"),
    ],
)
def test_a_package_that_is_broken(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, error)
    with pytest.raises(UsageError, match=r"tensorrt is installed .* \(libnvinfer.*: install it ag"):
        tensorrt()


def test_a_package_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, SimpleNamespace(__name__="tensorrt", __version__="10.9.0.34"))
    with pytest.raises(UsageError, match=r"tensorrt 10.9.0.34 is too old: install version 10\.15 "):
        tensorrt()
    for version_ in ("10.15.1.29", "11.0"):
        installed(monkeypatch, SimpleNamespace(__name__="tensorrt", __version__=version_))
        assert tensorrt().__version__ == version_


@pytest.mark.parametrize(
    "package", ["tensorrt_cu13", "tensorrt-cu13-bindings", "tensorrt_cu13_libs"]
)
def test_old_driver(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package for CUDA 13 with a driver for CUDA 12.8."""
    installed = [SimpleNamespace(name=name) for name in ("numpy", package, "tensorrt-rtx-cu12")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: installed)
    full: Any = SimpleNamespace(__name__="tensorrt", __version__="10.16.0")
    with pytest.raises(UsageError, match=r"driver 570.86.15 is too old for tensorrt 10.16.0: inst"):
        check_driver(full, GPU)
    rtx: Any = SimpleNamespace(__name__="tensorrt_rtx_bindings", __version__="1.7")
    check_driver(rtx, GPU)


def test_rtx_on_a_gpu_for_data_centres() -> None:
    full: Any = SimpleNamespace(__name__="tensorrt")
    rtx: Any = SimpleNamespace(__name__="tensorrt_rtx_bindings")
    h200 = Gpu("NVIDIA H200", "9.0", "580.65.06")
    with pytest.raises(UsageError, match=r"RTX is not made for an NVIDIA H200: pip install 'pmtoo"):
        check_made_for(rtx, h200)
    check_made_for(full, h200)
    check_made_for(rtx, Gpu("NVIDIA RTX PRO 6000", "12.0", "580.65.06"))


def test_installed_rtx_tells_its_cuda() -> None:
    try:
        version("tensorrt_rtx_cu13_bindings")
    except PackageNotFoundError:
        pytest.skip("TensorRT-RTX is not installed: pip install 'pmtool[dev]'")
    with pytest.raises(UsageError, match="install version 580 or newer"):
        check_driver(tensorrt(), GPU)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [("row2", [(4096, 16), (1024, 64), (512, 128)]), ("window", [(16, 24), (1, 72), (1, 136)])],
)
def test_profiles(graph: str, expected: list[tuple[int, int]]) -> None:
    """Lanes and groups of four columns, with the margin of the encoder where it is seen."""
    found = profiles(graph, COMPACT, MAX_WINDOWS)
    assert [(p["lanes"].most, p["groups"].most) for p in found] == expected
    assert all(p["rows"] == p["groups"] for p in found)
    few = profiles(graph, PAPER, 2)
    assert [p["lanes"].most for p in few] == [2, 1, 1]


def test_shapes() -> None:
    value = helper.make_tensor_value_info(
        "residuals", TensorProto.FLOAT, [3, "4*groups + 1", "lanes"]
    )
    (profile, *_) = profiles("row1", COMPACT, 100)
    assert shapes(value, profile) == [(3, 5, 1), (3, 65, 100), (3, 65, 100)]

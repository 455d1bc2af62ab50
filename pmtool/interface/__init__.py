"""The interface that sampler, graphs, engines and kernels share; it does not need PyTorch."""

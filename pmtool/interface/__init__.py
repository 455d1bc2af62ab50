"""What the sampler, the graphs, the engines and the kernels agree on; without PyTorch."""

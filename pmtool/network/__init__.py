"""The PixelMiner network in PyTorch, to be read alongside the paper."""

from pmtool.network.likelihood import bits_per_pixel, log_probability, standard_deviation
from pmtool.network.pixelminer import Mixture, PixelMiner, Stack

__all__ = [
    "Mixture",
    "PixelMiner",
    "Stack",
    "bits_per_pixel",
    "log_probability",
    "standard_deviation",
]

"""Engines that run the graphs of the cached sampler, behind one protocol."""

from pmtool.backends.protocol import Backend, Program

__all__ = ["Backend", "Program"]

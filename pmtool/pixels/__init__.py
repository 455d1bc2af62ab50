"""Pixels: their grey levels, their distributions, and the random numbers that draw them."""

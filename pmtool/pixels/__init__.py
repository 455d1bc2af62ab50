"""A pixel: its grey level, the distribution that it has, the random number that it is drawn by."""

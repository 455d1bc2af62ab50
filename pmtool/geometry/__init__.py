"""Where slices lie: a volume's axes, its grid, the weights of neighbours."""

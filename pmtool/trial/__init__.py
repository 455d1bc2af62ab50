"""The paper's human trial: people choose which of two slices looks more like the true one."""

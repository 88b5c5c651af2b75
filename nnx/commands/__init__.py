"""The command `nnx`."""

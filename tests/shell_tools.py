"""What tests of the command line share."""

from nnx.commands.cli import main

__all__ = ["done"]


def done(*words, status=0):
    """Run a command, and check its exit status."""
    assert main(list(map(str, words))) == status

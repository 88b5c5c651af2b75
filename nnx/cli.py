"""The command `nnx`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnx.backend import Memory, available_backends

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 where all went well."""
    parser = argparse.ArgumentParser(prog="nnx", description="Neural networks on any array library")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("backends", help="list the backends: which work here, and why not the rest")
    parser.parse_args(arguments)
    return show_backends()


def show_backends() -> int:
    """Print one row for each installed backend; 0 if one of them is usable."""
    from rich.console import Console
    from rich.table import Table

    statuses = list(available_backends().values())
    table = Table("backend", "usable", "version", "device", "memory free of total")
    for status in statuses:
        answer = "yes" if status.usable else "no"
        table.add_row(status.name, answer, status.version, status.device, _gibibytes(status.memory))
    console = Console()
    console.print(table)
    for status in statuses:
        if not status.usable:
            console.print(str(status), markup=False, highlight=False, soft_wrap=True)
    if not statuses:
        print("no backends are installed; in nnx's folder: pip install -e .", file=sys.stderr)
    return 0 if any(status.usable for status in statuses) else 1


def _gibibytes(memory: Memory | None) -> str:
    if memory is None:
        return ""
    return f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())

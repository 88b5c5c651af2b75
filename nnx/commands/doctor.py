"""`nnx doctor`: what this machine has, what is wrong with it, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nnx
from nnx.backend import (
    BackendError,
    BackendStatus,
    Problem,
    available_backends,
    installed_backends,
    resolve,
)

__all__ = ["DISTRIBUTION", "Environment", "environment"]

DISTRIBUTION = "nnx-array"


@dataclass
class Environment:
    """What a bug report should say about a machine.

    Attributes:
        facts: heading -> name -> value.
        problems: what keeps nnx, or a backend whose library is installed, from working.
        advice: what works, but may be slow or break.
    """

    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    advice: list[Problem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "facts": self.facts,
            "problems": [problem._asdict() for problem in self.problems],
            "advice": [problem._asdict() for problem in self.advice],
        }


def environment(backends: Sequence[str] | None = None) -> Environment:
    """Return what is known of this machine; this imports the library of every backend.

    Args:
        backends: those that are asked about, "cupy:1" for example; all if not given.
    """
    found = Environment()
    found.facts["machine"] = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "OS": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
    }
    _installation(found)
    libraries = {
        name: kind.library.partition(".")[0] for name, kind in installed_backends().items()
    }
    own = "|".join(["NNX", "CUDA", "XLA", *map(str.upper, libraries.values())])
    telling = re.compile(rf"({own})_\w+|\w+_NUM_THREADS")
    variables = {name: os.environ[name] for name in sorted(os.environ) if telling.fullmatch(name)}
    if variables:
        found.facts["variables"] = variables
    statuses, packages = available_backends(), importlib.metadata.packages_distributions()
    asked = set(statuses) if backends is None else {spec.partition(":")[0] for spec in backends}
    for name, status in statuses.items():
        if name not in asked:
            continue
        if name in libraries:
            library = libraries[name]
            _backend(found, status, library, sorted(set(packages.get(library, ()))))
        else:  # its distribution is broken
            found.facts[f"backend {name}"] = {"not usable": status.reason}
            found.problems.append(Problem(status.reason, status.remedy))
    if not any(status.usable for status in statuses.values()):
        found.problems.append(Problem("no backend is usable", "in nnx's folder: pip install -e ."))
    return found


def _installation(found: Environment) -> None:
    """Add nnx itself, the packages it needs, and those of its extras that are installed."""
    found.facts["nnx"] = facts = {"folder": str(Path(nnx.__file__).parent)}
    try:
        facts["installed"] = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        found.problems.append(
            Problem(
                f"nnx runs from {Path(nnx.__file__).parents[1]}, a folder that is not installed: "
                "its backends are not found",
                "in that folder: pip install -e .",
            )
        )
        return
    seen: set[str] = set()
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        match = re.match(r"([\w.-]+(?:\[\w+\])?)\s*>=\s*([\d.]+)([^;]*)(;.*)?", line)
        if match is None:
            continue
        requirement, least, _, marker = match.groups()
        if marker and "dev" in marker:  # what builds and checks nnx itself
            continue
        package = requirement.partition("[")[0]
        if package in seen:  # by another extra
            continue
        seen.add(package)
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if not marker:
                found.problems.append(
                    Problem(f"{package} is not installed", f'pip install "{requirement}>={least}"')
                )
            continue
        if not marker:
            facts[package] = version
        if _release(version) < _release(least):
            # An old package that only an extra needs does not stop nnx.
            (found.advice if marker else found.problems).append(
                Problem(
                    f"{package} {version} is too old for nnx, which needs {least}",
                    f'pip install --upgrade "{requirement}>={least}"',
                )
            )


def _backend(
    found: Environment, status: BackendStatus, library: str, distributions: list[str]
) -> None:
    """Add one backend: its facts or why it does not work, and the packages of its library."""
    packages = [f"{name} {importlib.metadata.version(name)}" for name in distributions]
    facts = {"packages": ", ".join(packages)} if packages else {}
    found.facts[f"backend {status.name}"] = facts
    if len(distributions) > 1 and _overlap(library, distributions):
        found.advice.append(
            Problem(
                f"{len(distributions)} packages install the library {library}: "
                f"{', '.join(packages)}; they overwrite each other's files",
                f"pip uninstall -y {' '.join(distributions)}, then pip install the one you need",
            )
        )
    if status.usable:
        backend = resolve(status.name, "float32")
        facts |= {"version": status.version, "device": status.device}
        if status.memory:
            facts["memory"] = f"{status.memory.total / 2**30:.1f} GiB"
        try:
            facts |= backend.facts()
            found.advice += backend.problems()
        except Exception as error:  # a fault must not keep the rest from being reported
            facts["more"] = f"not known: {type(error).__name__}: {error}"
        try:
            backend.try_out()
        except BackendError as error:
            found.problems.append(Problem(f"backend {status.name}: {error.reason}", error.remedy))
        except Exception as error:
            reason = f"a small computation ends in {type(error).__name__}: {error}"
            remedy = f"check the installation of {library}"
            found.problems.append(Problem(f"backend {status.name}: {reason}", remedy))
    else:
        facts["not usable"] = status.reason
        if _is_installed(library):
            found.problems.append(Problem(f"backend {status.name}: {status.reason}", status.remedy))
        else:
            facts["to have it"] = status.remedy


def _overlap(library: str, distributions: list[str]) -> bool:
    """Return whether two of them bring the same file of the library.

    Some libraries are made of several distributions: mlx and mlx-cpu are one program.
    """
    seen: set[str] = set()
    for name in distributions:
        own = {str(file) for file in importlib.metadata.files(name) or ()}
        own = {file for file in own if file.startswith(f"{library}/") and file[-4:] != ".pyc"}
        if own & seen:
            return True
        seen |= own
    return False


def _is_installed(library: str) -> bool:
    """Return whether the library can be found, without importing it."""
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _release(version: str) -> tuple[int, ...]:
    """1.12rc2 -> (1, 12, 0, 0)."""
    numbers = re.findall(r"\d+", re.split(r"[a-z+!-]", version)[0])
    return tuple(int(number) for number in [*numbers, 0, 0, 0][:4])

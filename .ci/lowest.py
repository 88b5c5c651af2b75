"""Print constraints for pip: the lowest version of each dependency that pyproject.toml admits."""

import itertools
import re
import sys
import tomllib
from pathlib import Path


def lowest(pyproject: Path) -> list[str]:
    """Return "name==version" for each dependency and each extra's.

    Raises:
        ValueError: a dependency has no lower bound, or two different ones.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    bounds: dict[str, str] = {}
    for requirement in itertools.chain(
        project["dependencies"], *project["optional-dependencies"].values()
    ):
        if requirement.startswith(project["name"]):  # one extra includes another
            continue
        found = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:>=|==)([\d.]+?)(?:\.\*)?", requirement)
        if not found:
            raise ValueError(f"expected a requirement like name>=1.2, got {requirement!r}")
        name, version = found.groups()
        if bounds.setdefault(name, version) != version:
            raise ValueError(f"{name} has the lower bounds {bounds[name]} and {version}")
    return [f"{name}=={version}" for name, version in bounds.items()]


if __name__ == "__main__":
    print(*lowest(Path(sys.argv[1])), sep="\n")

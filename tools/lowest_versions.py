"""Print a constraints file with the lowest version of every dependency that pyproject.toml names."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:; .+)?")
"""A requirement with a lower bound, extras and markers aside."""


def lowest(pyproject: Path) -> Iterator[str]:
    """Yield ``name==version`` for each requirement, optional ones included.

    Raises:
        ValueError: If a requirement has no lower bound.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    for requirement in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        if requirement.startswith(f"{project['name']}["):  # extras of the package itself
            continue
        bound = BOUND.fullmatch(requirement)
        if bound is None:
            raise ValueError(f"{requirement} has no lower bound: write it as NAME>=VERSION")
        yield f"{bound[1]}=={bound[2]}"


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parents[1] / "pyproject.toml")))

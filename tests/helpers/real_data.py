"""Real data for tests: named by the environment, or beside the checkout."""

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """The folder of a data set at hand; skips the test where there is none."""
    given = os.environ.get("MAESEG_TEST_DATA")
    root = Path(given) if given else Path(__file__).parents[3] / "shared" / "data"
    if not (root / name).is_dir():
        pytest.skip(f"no {name}: set MAESEG_TEST_DATA to the folder that holds it")
    return root / name

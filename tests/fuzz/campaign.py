"""The fuzz campaign: thousands of damaged files through the public command line (make fuzz).

    python tests/fuzz/campaign.py [--share 1.0] [--kinds images,labels]

Prints a table by kind; ends with 1 if anything ended otherwise than in a result or in one line. What failed is kept,
and the same cases come again each time.
"""

import argparse
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.harness import MEGABYTES, SECONDS, Ending, run
from fuzz.kinds import KINDS, Case, Seeds, make_seeds


def try_kind(
    make: Callable[[Seeds, Path], st.SearchStrategy[Case]], count: int, seeds: Seeds, root: Path
) -> list[tuple[Ending, Path]]:
    """Run ``count`` cases of one kind; the folders of those that ended wrongly stay."""
    endings: list[tuple[Ending, Path]] = []

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def each(data: st.DataObject) -> None:
        folder = root / str(len(endings))
        folder.mkdir(parents=True)
        try:
            words, leaves = data.draw(make(seeds, folder))
        except BaseException:  # Hypothesis gives up on a draw that grew too large
            shutil.rmtree(folder)
            raise
        ending = run(words, leaves)
        endings.append((ending, folder))
        if not ending.wrong:
            shutil.rmtree(folder)

    each()
    return endings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; returns 1 if anything ended wrongly."""
    parser = argparse.ArgumentParser(description="Fuzz maeseg's command line.")
    parser.add_argument("--share", type=float, default=1.0, help="of each kind's cases")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which of them")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="maeseg-fuzz-"))
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    logging.getLogger().addHandler(logging.NullHandler())  # what ends well needs no words
    seeds, began = make_seeds(root / "seeds"), time.monotonic()
    rows, failures = [], []
    for kind in options.kinds.split(","):
        make, count = KINDS[kind]
        endings = try_kind(make, max(1, round(count * options.share)), seeds, root / kind.replace(" ", "-"))
        wrong = [(ending, folder) for ending, folder in endings if ending.wrong]
        failures += wrong
        figures = [ending for ending, _ in endings]
        results = sum(ending.code == 0 and not ending.wrong for ending in figures)
        rows.append((kind, len(figures), results, len(figures) - results - len(wrong), len(wrong),
                     max(each.seconds for each in figures), max(each.megabytes for each in figures)))  # fmt: skip
        print(f"{kind}: {rows[-1][1:5]}", file=sys.stderr)
        for ending, folder in wrong:
            print(f"--- {folder}\n{ending.wrong[-3000:]}", file=sys.stderr)
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"{time.monotonic() - began:.0f} s; bounds: {SECONDS} s and {MEGABYTES} MB each\n")  # fmt: skip
    print("| input | cases | results | one-line errors | failures | slowest, s | most memory, MB |")
    print("|---|---|---|---|---|---|---|")
    total = [sum(row[place] for row in rows) for place in range(1, 5)]
    for row in (*rows, ("all", *total, max(row[5] for row in rows), max(row[6] for row in rows))):
        print(f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} | {row[4]} | {row[5]:.1f} | {row[6]:.0f} |")
    if not failures:
        shutil.rmtree(root)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())

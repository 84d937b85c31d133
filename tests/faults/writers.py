"""Commands that write files, on a full disk and killed: no file under its final name is incomplete."""

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from faults.disks import disk, filled

IMAGES, SIDE = 24, 256
LEFT = 48 * 2**10
"""Room on the full disk, in bytes: for the first files, and for no checkpoint or report."""
HEAD = ["writer", "fault", "exit code", "what is said", "files", "of them incomplete", "repeated, exit code"]


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Args:
        name: Name in the table.
        words: Its words; RUN, IMAGES and OUT stand for the run, the folder of images and the output.
        out: Name of the output in its folder.
    """

    name: str
    words: str
    out: str = "out"

    def command(self, run: Path, images: Path, folder: Path) -> list[str]:
        """The command line, with output into a folder."""
        places = {"RUN": str(run), "IMAGES": str(images), "OUT": str(folder / self.out)}
        return [sys.executable, "-m", "maeseg", *(_placed(word, places) for word in self.words.split())]


def _placed(word: str, places: dict[str, str]) -> str:
    """A word with its first part replaced by a place."""
    name, slash, rest = word.partition("/")
    return f"{places[name]}{slash}{rest}" if name in places else word


WRITERS = (
    Writer("`predict`, PNG", "predict --run RUN --images IMAGES/png --out OUT --overwrite"),
    Writer("`predict`, GeoTIFF", "predict --run RUN --images IMAGES/tif --out OUT --overlays false --overwrite"),
    Writer("`export`, safetensors", "export --run RUN --format safetensors --out OUT --overwrite", "w.safetensors"),
    Writer("`export`, smp", "export --run RUN --format smp --out OUT --overwrite"),
    Writer("`report`", "report --run OUT"),
)


def write_images(folder: Path) -> None:
    """Write images of noise: PNGs, and GeoTIFFs."""
    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_600_000)}
    for name in ("png", "tif"):
        (folder / name).mkdir(parents=True)
    for number in range(IMAGES):
        values_CHW = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(values_CHW.transpose(1, 2, 0)).save(folder / "png" / f"{number:02d}.png")
        with rasterio.open(
            folder / "tif" / f"{number:02d}.tif", "w", driver="GTiff", height=SIDE, width=SIDE, count=3, dtype="uint8",
            **place,
        ) as target:  # fmt: skip
            target.write(values_CHW)


def try_writers(run: Path, folder: Path, mounts: bool, kills: int, rng: random.Random) -> list[list[str]]:
    """Fill the disk under each writer, and kill the first two; rows of the table."""
    images = folder / "images"
    write_images(images)
    rows = []
    for number, writer in enumerate(WRITERS):
        rows.append(_on_full_disk(writer, run, images, folder / f"full{number}", mounts))
        print("  ", *rows[-1], sep=" | ", flush=True)
    for number, writer in enumerate(WRITERS[:2]):
        rows.append(_killed(writer, run, images, folder / f"killed{number}", kills, rng))
        print("  ", *rows[-1], sep=" | ", flush=True)
    return rows


def _on_full_disk(writer: Writer, run: Path, images: Path, folder: Path, mounts: bool) -> list[str]:
    with ExitStack() as stack:
        place = stack.enter_context(disk(folder, "60m")) if mounts else folder
        place.mkdir(exist_ok=True)
        if writer.words == "report --run OUT":
            shutil.copytree(run, place / writer.out)
        words = writer.command(run, images, place)
        before = set(place.rglob("*"))
        if mounts:
            with filled(place, LEFT):
                done = subprocess.run(words, capture_output=True, text=True)
        else:
            limit = f'ulimit -f {LEFT // 1024}; trap "" XFSZ; exec "$@"'
            done = subprocess.run(["bash", "-c", limit, "-", *words], capture_output=True, text=True)
        files, broken = _count(set(place.rglob("*")) - before)
        again = subprocess.run(words, capture_output=True)
        said = (done.stderr.splitlines() or ["**nothing**"])[-1].replace(str(place), "DISK")
        if done.returncode != 2 or "Traceback" in done.stderr:
            said = f"**{said}**"
        after = "0" if again.returncode == 0 else f"**{again.returncode}**"
        return [writer.name, "disk full", str(done.returncode), said, str(files), broken, after]


def _killed(writer: Writer, run: Path, images: Path, folder: Path, kills: int, rng: random.Random) -> list[str]:
    folder.mkdir()
    words = writer.command(run, images, folder)
    began = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    seconds, files, broken = time.monotonic() - began, 0, 0
    for _ in range(kills):
        shutil.rmtree(folder / writer.out, ignore_errors=True)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(seconds / 2, seconds))
        process.kill()
        process.wait()
        found, bad = _count(set(folder.rglob("*")))
        files, broken = files + found, broken + int(bad.strip("*"))
    again = subprocess.run(words, capture_output=True).returncode
    last = "0" if again == 0 else f"**{again}**"
    return [writer.name, f"{kills} SIGKILLs", str(-signal.SIGKILL), "", str(files), _marked(broken), last]


def _count(files: set[Path]) -> tuple[int, str]:
    """Number of files under their final names, and of those that cannot be read."""
    final = [path for path in files if path.is_file() and path.suffix != ".tmp" and path.name != "filler"]
    return len(final), _marked(sum(not _is_complete(path) for path in final))


def _marked(broken: int) -> str:
    return f"**{broken}**" if broken else "0"


def _is_complete(path: Path) -> bool:
    try:
        if path.suffix in (".png", ".tif"):
            with Image.open(path) as picture:
                picture.load()
        if path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        return ".maeseg" in path.parts or path.stat().st_size > 0
    except (OSError, SyntaxError, ValueError):
        return False

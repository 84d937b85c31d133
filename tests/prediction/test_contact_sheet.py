"""Contact sheets and legends: every class is drawn in its color and named, whatever its name is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maeseg.data.sources.folder import ImageFolder
from maeseg.labels.classes import BINARY, Classes, default_colors
from maeseg.labels.colors import BORDER_COLOR, Color
from maeseg.prediction.contact_sheet import contact_sheet, label_contact_sheet, legend_picture

FOUR = Classes(("background", "_road", "$car$", "\u9053\u8def"), (0, 1, 2, 3), default_colors(4))


def colors_in(picture: Image.Image) -> set[Color]:
    return {(color[0], color[1], color[2]) for _, color in picture.getcolors(2**24) or () if isinstance(color, tuple)}


def pixels_of(picture: Image.Image, color: Color) -> int:
    return next((count for count, found in picture.getcolors(2**24) or () if found == color), 0)


def tint(color: Color) -> set[Color]:
    """A color over black, as an overlay draws it, and its neighbors."""
    base = [int(0.4 * part) for part in color]
    return {(base[0] + r, base[1] + g, base[2] + b) for r in (0, 1) for g in (0, 1) for b in (0, 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six black images, larger than they are shown at; four bands of classes in each label, the last has a border."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    label = np.repeat(np.arange(4, dtype=np.uint8), 150)[None].repeat(300, axis=0)
    for number in range(6):
        Image.new("RGB", (600, 300)).save(tmp_path / "images" / f"{number}.png")
        label[:40] = 255 if number == 5 else label[-1]
        Image.fromarray(label).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


@pytest.mark.slow
def test_labels_over_their_images_with_a_legend(folder: Path) -> None:
    source = ImageFolder(folder, labeled=True, classes=FOUR)
    without, bordered = (
        label_contact_sheet(source, indices, ["x" * 99] * len(indices)) for indices in (range(5), range(6))
    )
    for sheet in (without, bordered):
        found = colors_in(sheet)
        assert all(tint(color) & found for color in FOUR.colors[1:]) and (0, 0, 0) in found
        assert set(FOUR.colors[1:]) <= found  # full colors are in the legend alone
    assert tint(BORDER_COLOR) & colors_in(bordered)
    assert pixels_of(bordered, BORDER_COLOR) > 100 > pixels_of(without, BORDER_COLOR)  # in the legend
    assert bordered.height > 1.5 * without.height and bordered.width == without.width  # two rows, and one


def test_one_color_needs_no_legend(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        Image.fromarray(((np.asarray(Image.open(file)) == 2) * 255).astype(np.uint8)).save(file)
    sheet = label_contact_sheet(ImageFolder(folder, labeled=True), [0], ["0.png"])
    found = colors_in(sheet)
    assert tint(BINARY.colors[1]) & found and BINARY.colors[1] not in found


def test_a_legend_of_many_classes_and_of_a_few() -> None:
    for count in (3, 64):
        colors = default_colors(count)
        names = tuple(f"class with a long name {number}" for number in range(count))
        legend = legend_picture(Classes(names, tuple(range(count)), colors))
        assert set(colors[1:]) <= colors_in(legend)


def test_titles_may_be_names_of_any_bytes_and_letters() -> None:
    pictures = [Image.new("RGB", (20, 30), "red") for _ in range(3)]
    sheet = contact_sheet(pictures, ["stra\udcdfe.png", "\u753b\u50cf.png", "$x_{"])
    assert (255, 0, 0) in colors_in(sheet)

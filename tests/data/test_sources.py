import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.fake_pets import write_fake_pets
from helpers.real_data import real_data
from maeseg.data.sources.base import open_source
from maeseg.data.sources.folder import ImageFolder
from maeseg.errors import UserError

# --- oxford-pet


def test_pets_follow_trainval_and_map_the_trimap(tmp_path: Path) -> None:
    folder = write_fake_pets(tmp_path, count=5)
    Image.new("RGB", (8, 8)).save(folder / "images" / "not_listed_1.jpg")
    source = open_source(f"oxford-pet:{tmp_path}", labeled=True)
    assert (len(source), source.name, source.labeled) == (5, "oxford-pet", True)
    assert source.file(0) == "Abyssinian_1.jpg"
    assert source.image(0).mode == "RGB"
    trimap = np.asarray(Image.open(folder / "annotations/trimaps/Abyssinian_1.png"))
    label = np.asarray(source.label(0))
    for before, after in ((1, 1), (2, 0), (3, 255)):
        assert (trimap == before).any()
        np.testing.assert_array_equal(trimap == before, label == after)


def test_pets_test_split_is_another_one(tmp_path: Path) -> None:
    write_fake_pets(tmp_path, count=4, test=True)
    files = []
    for test in (False, True):
        source = open_source(f"oxford-pet:{tmp_path}", labeled=True, test=test)
        files.append({source.file(i) for i in range(len(source))})
    assert len(files[0]) == len(files[1]) == 4
    assert not files[0] & files[1]


def test_pets_without_trimaps_serve_pretraining_only(tmp_path: Path) -> None:
    folder = write_fake_pets(tmp_path)
    for path in (folder / "annotations" / "trimaps").iterdir():
        path.unlink()
    assert open_source(f"oxford-pet:{tmp_path}", labeled=False).image(0).size == (48, 40)
    with pytest.raises(UserError, match=r"lacks 12 of 12 files: Abyssinian_1.png, .*annotations.tar.gz"):
        open_source(f"oxford-pet:{tmp_path}", labeled=True)


def test_pets_absent_names_root_and_archives(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_source(f"oxford-pet:{tmp_path}", labeled=False)
    for words in (str(tmp_path), "images.tar.gz", "annotations.tar.gz", "--download true"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pets_without_test_split_say_so(tmp_path: Path) -> None:
    write_fake_pets(tmp_path)
    with pytest.raises(UserError, match=r"no annotations/test.txt: this copy has trainval only"):
        open_source(f"oxford-pet:{tmp_path}", labeled=True, test=True)


def test_pets_download_without_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on the discard port
    with pytest.raises(UserError, match=r"download of Oxford-IIIT Pet into .* failed") as caught:
        open_source(f"oxford-pet:{tmp_path}", labeled=False, download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("", "is empty"), ("Abyssinian_1 1\n", "not in the official form")])
def test_pets_spoilt_list(tmp_path: Path, text: str, words: str) -> None:
    folder = write_fake_pets(tmp_path)
    (folder / "annotations" / "trainval.txt").write_text(text)
    with pytest.raises(UserError, match=f"trainval.txt .*{words}"):
        open_source(f"oxford-pet:{tmp_path}", labeled=False)


def test_pets_missing_image_and_spoilt_files_are_named(tmp_path: Path) -> None:
    folder = write_fake_pets(tmp_path)
    (folder / "images" / "Abyssinian_1.jpg").write_bytes(b"")
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(folder / "annotations/trimaps/Abyssinian_1.png")
    source = open_source(f"oxford-pet:{tmp_path}", labeled=True)
    with pytest.raises(UserError, match=r"Abyssinian_1.jpg is empty"):
        source.image(0)
    with pytest.raises(UserError, match=r"Abyssinian_1.png has the values 7: a trimap"):
        source.label(0)
    (folder / "images" / "Bengal_2.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of 12 files: Bengal_2.jpg"):
        open_source(f"oxford-pet:{tmp_path}", labeled=True)


def test_real_pets() -> None:
    source = open_source(f"oxford-pet:{real_data('pets128')}", labeled=True)
    assert len(source) == 3680
    labels = np.stack([np.asarray(source.label(i)) for i in range(0, 3680, 46)])
    assert set(np.unique(labels)) == {0, 1, 255}
    assert abs((labels == 1).mean() - 0.300) < 0.05
    assert abs((labels == 255).mean() - 0.114) < 0.02


# --- folders


def write(path: Path, pixels: object, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)  # type: ignore[arg-type]
    return path


GRAY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
COLOR = np.stack([GRAY, 255 - GRAY, GRAY // 2], -1)
BOX = np.zeros((6, 8), np.uint8)
BOX[2:4, 1:5] = 1


def test_unlabeled_folder_at_any_depth_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/deep/c.tif", "a/x.bmp", "a/w.webp", "z.JPEG"):
        write(tmp_path / name, COLOR)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._b.png").write_bytes(b"a Mac's companion file")
    source = open_source(str(tmp_path), labeled=False)
    assert [source.file(i) for i in range(len(source))] == [
        "a/deep/c.tif",
        "a/w.webp",
        "a/x.bmp",
        "b.PNG",
        "z.JPEG",
    ]
    assert not source.labeled


@pytest.mark.parametrize("beside", ["masks", "labels"])
def test_labels_are_never_taken_for_images(tmp_path: Path, beside: str) -> None:
    write(tmp_path / "images/sub/cat.png", COLOR)
    write(tmp_path / beside / "sub/cat.tif", BOX)
    for labeled in (False, True):
        source = open_source(str(tmp_path), labeled=labeled)
        assert [source.file(i) for i in range(len(source))] == ["images/sub/cat.png"]


@pytest.mark.parametrize(
    ("name", "pixels", "mode"),
    [
        ("l.png", BOX, None),
        ("l255.png", BOX * 255, None),
        ("bool.png", BOX.astype(bool), None),
        ("u16.png", BOX.astype(np.uint16), None),
        ("rgb.png", np.stack([BOX * 255] * 3, -1), None),
        ("rgba.png", np.stack([BOX * 255] * 3, -1), "RGBA"),
    ],
)
def test_label_modes_give_the_same_label(tmp_path: Path, name: str, pixels: object, mode: str | None) -> None:
    write(tmp_path / "images" / name, COLOR)
    write(tmp_path / "masks" / name, pixels, mode)
    label = open_source(str(tmp_path), labeled=True).label(0)
    assert label.mode == "L"
    np.testing.assert_array_equal(np.asarray(label), BOX)


def test_palette_label_is_read_as_indices(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", COLOR)
    label = Image.fromarray(BOX).convert("P")
    label.putpalette([90, 90, 90, 200, 30, 30])
    (tmp_path / "masks").mkdir()
    label.save(tmp_path / "masks/a.png")
    np.testing.assert_array_equal(np.asarray(open_source(str(tmp_path), labeled=True).label(0)), BOX)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1"])
def test_image_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    reference = Image.fromarray(COLOR).convert(mode)
    reference.save(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_source(str(tmp_path), labeled=False).image(0)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(reference.convert("RGB")))


def test_transparent_palette_and_16_bit_gray(tmp_path: Path) -> None:
    Image.fromarray(GRAY).convert("P").save(tmp_path / "a.png", transparency=b"\x00\x80")
    write(tmp_path / "b.png", GRAY.astype(np.uint16) * 257 + 9)
    write(tmp_path / "c.tif", GRAY.astype(np.float32))
    source = open_source(str(tmp_path), labeled=False)
    for index in (0, 1):
        np.testing.assert_array_equal(np.asarray(source.image(index)), np.stack([GRAY] * 3, -1))
    with pytest.raises(UserError, match=r"c.tif holds values of type float32, whose range is unknown"):
        source.image(2)


@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp", "png"])
def test_exif_orientation_is_applied_before_sizes_are_compared(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter: 8 x 6 is shown as 6 x 8
    write(tmp_path / f"images/a.{suffix}", COLOR, exif=exif)
    write(tmp_path / "masks/a.png", BOX.T)
    source = open_source(str(tmp_path), labeled=True)
    assert source.image(0).size == source.label(0).size == (6, 8)


def layout(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> Path:
    for name in names:
        write(root / "images" / f"{name}.png", COLOR)
        write(root / "masks" / f"{name}.png", BOX)
    return root


def test_missing_folder_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data .*/nowhere: no such folder; give"):
        open_source(str(tmp_path / "nowhere"), labeled=False)
    with pytest.raises(UserError, match=r"is a file"):
        open_source(str(write(tmp_path / "x/a.png", COLOR)), labeled=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=r"empty: no images found at any depth: give images of \.jpg, \.jpeg, \.png, \.bmp"
    ):
        open_source(str(tmp_path / "empty"), labeled=False)


def test_labels_wanted_of_a_plain_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.png", COLOR)
    with pytest.raises(UserError, match=r"has no labels: labeled data is a folder with images/ and masks/"):
        open_source(str(tmp_path), labeled=True)


def test_images_without_a_label_are_counted_and_labels_without_an_image_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout(tmp_path / "one")
    for name in "abcd":
        (tmp_path / "one/masks" / f"{name}.png").unlink()
    with caplog.at_level(logging.INFO):
        source = open_source(str(tmp_path / "one"), labeled=True)
    assert [source.file(index) for index in range(len(source))] == ["images/e.png"]
    assert "1 of 5 images have labels; pretrain can use the other 4" in caplog.text
    assert len(open_source(str(tmp_path / "one"), labeled=False)) == 5
    (layout(tmp_path / "two") / "images/b.png").unlink()
    with pytest.raises(UserError, match=r"no image for 1 of 5 labels: masks/b.png \(the first image is images/a.png\)"):
        open_source(str(tmp_path / "two"), labeled=True)


def test_names_that_pair_twice(tmp_path: Path) -> None:
    write(layout(tmp_path / "one") / "images/a.bmp", COLOR)
    with pytest.raises(UserError, match=r"two images share the name a:"):
        open_source(str(tmp_path / "one"), labeled=True)
    write(layout(tmp_path / "two") / "masks/a.bmp", BOX)
    with pytest.raises(UserError, match=r"two labels belong to images/a.png: masks/a.bmp and masks/a.png"):
        open_source(str(tmp_path / "two"), labeled=True)
    write(layout(tmp_path / "three") / "labels/a.png", BOX)
    with pytest.raises(UserError, match=r"has labels in labels/ and in masks/: .*masks: labels"):
        open_source(str(tmp_path / "three"), labeled=True)


def test_size_difference_names_both(tmp_path: Path) -> None:
    write(layout(tmp_path) / "masks/c.png", BOX[:5, :7])
    with pytest.raises(UserError, match=r"images/c.png is 8x6 but masks/c.png is 7x5: re-export the label"):
        open_source(str(tmp_path), labeled=True).check(2)


@pytest.mark.parametrize("values", [(0, 2), (0, 1, 255), (0, 128, 255)])
def test_label_values_that_are_not_binary(tmp_path: Path, values: tuple[int, ...]) -> None:
    label = np.resize(np.array(values, np.uint8), (6, 8))
    write(layout(tmp_path, ("a",)) / "masks/a.png", label)
    listed = ", ".join(map(str, values))
    with pytest.raises(
        UserError, match=rf"masks/a.png has the values {listed}; a binary label has only 0 for background and 1"
    ):
        open_source(str(tmp_path), labeled=True).label(0)


def test_color_label(tmp_path: Path) -> None:
    write(layout(tmp_path, ("a",)) / "masks/a.png", COLOR)
    with pytest.raises(UserError, match=r"masks/a.png is a color image, and the labels have 48 colors"):
        open_source(str(tmp_path), labeled=True).label(0)


def test_volumes_in_place_of_images(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"no images found .*; 1 files of \.nii and \.nii\.gz are volumes"):
        ImageFolder(tmp_path, labeled=False)


def test_photographs_in_place_of_labels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    write(layout(tmp_path, ("a",)) / "masks/a.png", values)
    with pytest.raises(UserError, match=r"more than 512 colors.*exchange images and masks"):
        open_source(str(tmp_path), labeled=True).label(0)


def spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello there", "cut": whole[: len(whole) // 2]}[how])


@pytest.mark.parametrize(
    ("how", "words"),
    [("empty", r"is empty \(0 bytes\)"), ("text", "not an image"), ("cut", "cannot be read")],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_broken_image_is_named(tmp_path: Path, how: str, words: str, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    spoil(write(tmp_path / f"cat_7.{suffix}", pixels), how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of a cut TIFF header as well
        with pytest.raises(UserError, match=rf"cat_7.{suffix}.*{words}") as caught:
            open_source(str(tmp_path), labeled=False).image(0)
    assert "\n" not in str(caught.value)


def test_broken_label_is_named_by_the_check(tmp_path: Path) -> None:
    spoil(layout(tmp_path) / "masks/d.png", "empty")
    with pytest.raises(UserError, match=r"masks/d.png is empty"):
        open_source(str(tmp_path), labeled=True).check(3)


@pytest.mark.slow
def test_real_nuclei() -> None:
    source = open_source(str(real_data("nuclei")), labeled=True)
    assert len(source) == 538
    for index in range(0, 538, 60):
        assert source.image(index).size == source.label(index).size
        assert set(np.unique(np.asarray(source.label(index)))) == {0, 1}


# --- names


@pytest.mark.parametrize(
    ("data", "meant"),
    [("oxford-pets", "oxford-pet"), ("oxfordpet:data", "oxford-pet"), ("syntetic:9", "synthetic")],
)
def test_misspelt_name(data: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"data {data}: no such folder; did you mean {meant}\b"):
        open_source(data, labeled=True)


@pytest.mark.parametrize("count", ["0", "-3", "many", "1.5", "@64", "7@", "7@0", "7@64@64"])
def test_synthetic_count(count: str) -> None:
    with pytest.raises(UserError, match=f"synthetic:{count}: '{count}' is not a number of images"):
        open_source(f"synthetic:{count}", labeled=True)


def test_synthetic_side() -> None:
    source = open_source("synthetic:3@64", labeled=True)
    assert (len(source), tuple(source.pixels(2).shape), source.label(2).size) == (3, (3, 64, 64), (64, 64))
    with pytest.raises(UserError, match="16 pixels is not a side of 32 to 512"):
        open_source("synthetic:3@16", labeled=True)


def test_a_folder_has_no_test_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder has no test split"):
        open_source(str(layout(tmp_path)), labeled=True, test=True)


def test_download_without_effect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_source("synthetic:3", labeled=True, download=True)
    assert "download has no effect on synthetic:3" in caplog.text

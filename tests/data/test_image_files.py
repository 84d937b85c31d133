"""Image files in practice: supported and rejected files, error messages, skipped images."""

import csv
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.tar_shards import encoded, write_shard
from helpers.tiny_runs import NETWORK, TRAINING, maeseg, split_of
from maeseg.data.bad_images import leave_out_bad
from maeseg.data.decoding import count_pixels
from maeseg.data.facts import ImageFacts
from maeseg.data.image_files import MAX_PIXELS_ALONE, DataError, list_files
from maeseg.data.image_reading import RGB, read_image
from maeseg.data.pixel_facts import check_pixels
from maeseg.data.sources.base import open_source
from maeseg.data.survey import survey
from maeseg.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def color(form: str, mode: str = "RGB") -> bytes:
    return saved(Image.fromarray(PIXELS).convert(mode), form)


def sixteen_bits(form: str) -> bytes:
    return saved(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), form)


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (48, 40), name) for name in ("red", "blue")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:])


def png_of(width: int, height: int, *, content: bytes = b"\0") -> bytes:
    """A PNG with this header, regardless of its content; every checksum is valid."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


READABLE = {
    "gray.jpg": color("JPEG", "L"), "cmyk.jpg": color("JPEG", "CMYK"), "palette.png": color("PNG", "P"),
    "alpha.png": color("PNG", "RGBA"), "gray and alpha.png": color("PNG", "LA"), "bits.png": color("PNG", "1"),
    "16 bits.png": sixteen_bits("PNG"), "16 bits.tif": sixteen_bits("TIFF"), "one.png": png_of(1, 1, content=bytes(4)),
    "jpeg called.png": color("JPEG"), "png called.jpg": color("PNG"), "gif called.jpg": color("GIF", "P"),
    "animated.png": animated("PNG"), "animated.webp": animated("WEBP"), "animated.gif": animated("GIF"),
    "two eyes.jpg": animated("MPO"), "name with 😺.jpg": color("JPEG"), "name\nof two lines.JPG": color("JPEG"),
    "CAPITALS.JPEG": color("JPEG"),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_what_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(READABLE[name])
    assert list_files(tmp_path) == [Path(name)]
    facts = check_pixels(file, name, RGB)
    image = read_image(file)
    assert (facts.width, facts.height) == image.size
    assert facts.animated is name.startswith("animated")
    assert (image.mode, image.size) == ("RGB", (1, 1) if name == "one.png" else (48, 40))


def test_the_first_of_several_frames_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(animated("PNG"))
    assert read_image(tmp_path / "a.webp").getpixel((3, 3)) == (255, 0, 0)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\nshowpage\n"
REFUSED = {
    "empty.jpg": (b"", "is empty (0 bytes)"), "text.jpg": (b"hello there", "not an image"),
    "cut.jpg": (color("JPEG")[:-400], "cut.jpg cannot be read as an image"),
    "cut.png": (color("PNG")[:-400], "cut.png cannot be read as an image"),
    "cut.webp": (color("WEBP")[:-400], "cut.webp cannot be read as an image"),
    "cut.tif": (color("TIFF")[:-400], "cut.tif cannot be read as an image"),
    "header alone.jpg": (color("JPEG")[:20], "header alone.jpg cannot be read"),
    "flipped.png": (color("PNG")[:900] + b"\xff\xff" + color("PNG")[902:], "flipped.png cannot be read"),
    "32 bits.tif": (saved(Image.new("F", (48, 40)), "TIFF"), "of type float32, whose range is unknown"),
    "pages.tiff": (animated("TIFF"), "has 2 pages, and an image has one: save each page"),
    "short.png": (png_of(48, 40), "short.png cannot be read"),  # every checksum is right
    "bomb.png": (png_of(20_000, 20_000), "million: scale it down"),
    "big.png": (png_of(12_000, 9_000), "has 12000 x 9000 pixels, and the maximum is 100 million"),
    "name\nof two lines.jpg": (b"hello there", "name of two lines.jpg cannot be read"),
    "postscript.jpg": (POSTSCRIPT, "not an image"),  # Pillow would start Ghostscript to read it
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("look", [lambda file: check_pixels(file, str(file), RGB), read_image], ids=["check", "read"])
def test_what_is_refused(tmp_path: Path, name: str, look: Callable[[Path], object]) -> None:
    content, words = REFUSED[name]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        look(file)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_largest_image_is_within_the_bound(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(color("PNG"))
    assert read_image(tmp_path / "a.png", 40 * 48).size == (48, 40)
    for look in (read_image, partial(count_pixels, name="a.png"), partial(check_pixels, name="a.png", channels=RGB)):
        with pytest.raises(DataError, match="has 48 x 40 pixels"):
            look(tmp_path / "a.png", most=40 * 48 - 1)
    (tmp_path / "large.png").write_bytes(png_of(12_000, 12_000))
    assert count_pixels(tmp_path / "large.png", "large.png", MAX_PIXELS_ALONE) == 12_000**2


def test_links_and_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("gone.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "again").symlink_to("..")
    source = open_source(str(tmp_path), labeled=False)
    messages = {source.file(index): reason for index, reason in survey(source, range(len(source))).faults.items()}
    assert set(messages) == {"endless.jpg", "loop.jpg", "nowhere.jpg", "pipe.jpg"}
    assert "not a regular file" in messages["pipe.jpg"] and "not a regular file" in messages["endless.jpg"]
    assert "does not exist" in messages["nowhere.jpg"]
    assert "symbolic links" in messages["loop.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(color("JPEG"))
    (tmp_path / "a.jpg").chmod(0)
    with pytest.raises(DataError, match=r"a.jpg cannot be read: permission denied"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match=r"folder .*closed cannot be read: Permission denied"):
        list_files(tmp_path)


# --- what training leaves out


def pictures(root: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    """Images 00.png, 01.png ..., some of them text."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (root / f"{number:02}.png").write_bytes(b"meow" if number in bad else encoded(number, "PNG", (64, 64)))
    return root


def test_a_bad_image_moves_no_other_between_the_parts(tmp_path: Path) -> None:
    """Holds for a share and for a number, although damaged files have another content now."""
    sound = open_source(str(pictures(tmp_path / "data", 20)), labeled=False)
    split = split_of(sound, 0.5)
    bad = (split.train[2], split.val[1])
    source = open_source(str(pictures(tmp_path / "data", 20, bad)), labeled=False)
    found = survey(source)
    drawn = split_of(source, 0.5)
    assert set(split.train) - set(bad) <= set(drawn.train) and set(split.val) - set(bad) <= set(drawn.val)
    kept, skipped = leave_out_bad(source, split, found.faults, "skip")
    assert kept.train == tuple(index for index in split.train if index not in bad)
    assert kept.val == tuple(index for index in split.val if index not in bad)
    assert list(skipped) == [f"{index:02}.png" for index in sorted(bad)]
    with pytest.raises(UserError, match=r"(?s)\d\d.png cannot .* \(and 1 more .*; .* --on_bad_image skip"):
        leave_out_bad(source, split, found.faults, "fail")


def test_no_remaining_image_is_an_error(tmp_path: Path) -> None:
    source = open_source(str(pictures(tmp_path, 4, (0, 1, 2, 3))), labeled=False)
    with pytest.raises(UserError, match=r"leaves no training image of .*: .*00.png cannot be read"):
        leave_out_bad(source, split_of(source, 1), survey(source).faults, "skip")


def test_what_was_sound_is_not_looked_at_again_unless_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = open_source(str(pictures(tmp_path / "data", 5, (3,))), labeled=False)
    looked: list[int] = []
    check = source.check

    def noted(index: int) -> ImageFacts:
        looked.append(index)
        return check(index)

    monkeypatch.setattr(source, "check", noted)
    assert list(survey(source, range(5)).faults) == [3] and looked == [0, 1, 2, 3, 4]
    looked.clear()
    assert list(survey(source, range(5)).faults) == [3] and looked == [3]
    (tmp_path / "data" / "01.png").write_bytes(b"cut")
    looked.clear()
    assert list(survey(source, range(5)).faults) == [1, 3] and looked == [1, 3]
    assert len(list((tmp_path / "cache" / "maeseg" / "checked").iterdir())) == 1


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    source = open_source(str(pictures(tmp_path / "data", 3, (1,))), labeled=False)
    assert list(survey(source, range(3)).faults) == [1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert list(survey(source, range(3)).faults) == [1]
    [cache] = (tmp_path / "cache" / "maeseg" / "checked").iterdir()
    cache.write_bytes(b"\xff\xfe")
    assert list(survey(source, range(3)).faults) == [1]


def test_processes_find_the_same(tmp_path: Path) -> None:
    bad = (0, 64, 70)
    source = open_source(str(pictures(tmp_path, 71, bad)), labeled=False)
    messages = survey(source, range(71)).faults
    assert tuple(messages) == bad
    assert messages[64] == f"{tmp_path}/64.png cannot be read as an image (not an image): remove it or replace it"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_no_more_processes_than_cores_that_this_one_may_use(tmp_path: Path) -> None:
    source = open_source(str(pictures(tmp_path, 71, (64,))), labeled=False)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        # PyTorch warns of more processes than cores: an error here
        assert list(survey(source, range(71)).faults) == [64]
    finally:
        os.sched_setaffinity(0, cores)


def test_bad_images_in_shards(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "a.tar", {"one.jpg": encoded(1), "two.jpg": encoded(2)[:300], "three.png": encoded(3, "PNG")}
    )
    source = open_source(str(tmp_path), labeled=False)
    messages = survey(source, range(3)).faults
    assert list(messages) == [1] and f"{tmp_path}/a.tar/two.jpg cannot be read" in messages[1]


@pytest.mark.slow
def test_pretrain_skips_lists_and_resumes_with_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data, out = pictures(tmp_path / "data", 16, (5, 9)), tmp_path / "run"
    words = ("pretrain", "--out", out, *NETWORK, *TRAINING, "--data", data, "--batch_size", 4, "--epochs", 1)
    assert maeseg(*words) == 2 and not out.exists()
    assert "05.png cannot be read" in capfd.readouterr().err
    assert maeseg(*words, "--on_bad_image", "skip") == 0
    rows = list(csv.reader((out / "skipped.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows] == ["file", "05.png", "09.png"]
    assert rows[1][1] == f"{data}/05.png cannot be read as an image (not an image): remove it or replace it"
    pictures(data, 16, (5,))
    (out / "run.json").write_text((out / "run.json").read_text().replace("finished", "running"))
    capfd.readouterr()
    before = (out / "images.csv").read_bytes()
    assert maeseg(*words, "--on_bad_image", "skip", "--resume") == 0
    assert "has 1 more image than when" in caplog.text  # what can be read now is not used
    assert (out / "images.csv").read_bytes() == before
    [trained] = [row[1] for row in csv.reader(before.decode().splitlines()) if row[0] == "train"][:1]
    (data / trained).write_bytes(b"meow")
    (out / "run.json").write_text((out / "run.json").read_text().replace("finished", "running"))
    assert maeseg(*words, "--on_bad_image", "skip", "--resume") == 2
    assert f"{trained} of {data} has changed" in capfd.readouterr().err


@pytest.mark.slow
def test_compare_skips_in_every_run(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data" / "images", 12, (4,)).parent
    (data / "masks").mkdir()
    for number in range(12):
        Image.new("L", (64, 64), number % 2).save(data / "masks" / f"{number:02}.png")
    (data / "masks" / "07.png").write_bytes(b"")
    words = ("compare", "--out", tmp_path / "out", *NETWORK, *TRAINING, "--data", data, "--inits", "[scratch]")
    more = ("--labels", "[4, 1.0]", "--seeds", 1, "--epochs", 1, "--steps_per_epoch", 1, "--on_bad_image", "skip")
    assert maeseg(*words, *more, "--batch_size", 4) == 0
    lists = sorted((tmp_path / "out").rglob("skipped.csv"))
    assert len(lists) == 3 and len({each.read_text() for each in lists}) == 1
    assert (
        lists[0].read_text().splitlines()[2].startswith("images/07.png,") and "07.png is empty" in lists[0].read_text()
    )

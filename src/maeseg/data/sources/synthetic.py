"""Synthetic images of creatures with exact labels: data for tests and demos without a download.

A creature is a body with head, ears, legs and a tail, in fur: fine streaks along its body, with spots, stripes or
neither. The background is fractal noise with geometric shapes in the creature's colors, some of them furry, some in
front of the creature. So segmentation needs texture and shape, not color alone. Image ``i`` is a function of (seed, i);
no image is stored. An image takes about 4 ms at 128 pixels, as every texture is a random crop of a few large noise
fields generated once.

Axes: images are ``(C, H, W)`` until the last step.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from maeseg.data.facts import ImageFacts, ProvidedSplit, digest
from maeseg.data.image_reading import RGB, pixels_of
from maeseg.data.pixel_conversion import FULL
from maeseg.labels.classes import BINARY

Array = NDArray[np.float32]
Points = NDArray[np.float64]  # (n, 2): x, y

_SHARE = (0.06, 0.55)  # of the image that creatures cover; a layout outside this range is drawn again
_ANGLES = 24  # directions of fur, over half a turn
_CELLS = (2, 4, 8, 16, 32, 64)  # bumps along a side of each smooth noise field
_CIRCLE = np.array([(math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 20, endpoint=False)])


@dataclass(frozen=True)
class _Patch:
    """Shape to paint into a box of the image."""

    box: tuple[slice, slice]
    cover: Array  # (h, w), 0..1


@dataclass(frozen=True)
class _Creature:
    body: _Patch
    face: Array  # (h, w), 0..1: eye and nose
    direction: float  # of the fur, in radians


@dataclass(frozen=True)
class _Layout:
    creatures: tuple[_Creature, ...]
    occluder: _Patch | None  # in front of them
    label: NDArray[np.uint8]


class Synthetic:
    """Synthetic creatures on clutter, with labels.

    Args:
        count: Number of images.
        size: Side of the images in pixels.
        seed: Seed of the images.
        test: True for different images with the same seed: a test set.
    """

    def __init__(self, count: int = 700, size: int = 128, seed: int = 0, *, test: bool = False) -> None:
        self.name = "synthetic"
        self.labeled = True
        self.channels = RGB
        self.largest = FULL
        self.classes = BINARY
        self.size = size
        self._count = count
        self._seed = (seed, int(test))

    def __len__(self) -> int:
        return self._count

    def file(self, index: int) -> str:
        """Return a name, such as ``creature_00007.png``."""
        return f"{'test' if self._seed[1] else 'creature'}_{index:05d}.png"

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return an empty list: there is no file."""
        return []

    def split(self, index: int) -> ProvidedSplit | None:
        """Return None: synthetic images have no splits or groups."""
        return None

    def group(self, index: int) -> str | None:
        """Return None: synthetic images have no splits or groups."""
        return None

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts without generating it."""
        return ImageFacts(digest(f"synthetic {self._seed} {index} {self.size}".encode()), self.size, self.size)

    def image(self, index: int) -> Image.Image:
        """Generate an image, RGB."""
        return _image(self._seed, index, self.size).copy()

    def pixels(self, index: int) -> Tensor:
        """Generate an image as a tensor (3, H, W), uint8."""
        return pixels_of(self.image(index))

    def nodata(self, index: int) -> None:
        """Return None: synthetic images have no nodata pixels."""

    def label(self, index: int) -> Image.Image:
        """Generate an image's label: mode L, 0 background, 1 creature."""
        return Image.fromarray(_layout(self._seed, index, self.size).label)


@functools.lru_cache(maxsize=1024)  # epochs read the same images again; 50 MB at 128 px
def _image(seed: tuple[int, int], index: int, size: int) -> Image.Image:
    rng = np.random.default_rng([*seed, index, 1])
    return _paint(_Brush(rng, size), _layout(seed, index, size))


def _layout(seed: tuple[int, int], index: int, size: int) -> _Layout:
    # the layout draws from its own stream, so that a label costs no painting
    brush = _Brush(np.random.default_rng([*seed, index, 0]), size)
    while True:
        layout = _arrange(brush)
        if _SHARE[0] <= layout.label.mean() <= _SHARE[1]:
            return layout


class _Fields:
    """Large noise fields of mean 0 and standard deviation about 1; textures are crops of them."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        self.side = 3 * size
        self.white = rng.standard_normal((self.side, self.side), dtype=np.float32)
        self.smooth = {cells: self._resize(rng, 3 * cells, 3 * cells) for cells in _CELLS}
        self.streaks = [self._streaks(rng, size, step) for step in range(_ANGLES)]

    def _resize(self, rng: Generator, rows: int, columns: int) -> Array:
        grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
        return _scaled(np.asarray(grid.resize((self.side, self.side), Image.Resampling.BICUBIC)))

    def _streaks(self, rng: Generator, size: int, step: int) -> Array:
        # fine across and about five times as long along the direction
        wide = Image.fromarray(self._resize(rng, 2 * size, size * 2 // 5))
        turned = np.asarray(wide.rotate(-180 * step / _ANGLES, Image.Resampling.BICUBIC))
        rim = math.ceil(self.side * 0.15)  # the corners of a turned square are empty
        return _scaled(turned[rim:-rim, rim:-rim])


@functools.lru_cache(maxsize=4)
def _fields(size: int) -> _Fields:
    return _Fields(size)


class _Brush:
    """Random numbers and random crops of the noise fields."""

    def __init__(self, rng: Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self._fields = _fields(size)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def noise(self, shape: tuple[int, int], cells: int) -> Array:
        """Crop smooth noise with about ``cells`` bumps along a side of the image; ``cells`` is one of _CELLS."""
        return self._crop(self._fields.smooth[cells], shape)

    def grain(self, shape: tuple[int, int]) -> Array:
        return self._crop(self._fields.white, shape)

    def streaks(self, shape: tuple[int, int], direction: float) -> Array:
        step = round(direction / math.pi * _ANGLES) % _ANGLES
        return self._crop(self._fields.streaks[step], shape)

    def waves(self, shape: tuple[int, int], direction: float, period: float) -> Array:
        """Generate bent stripes across ``direction``, -1..1; ``period`` is a share of the image's side."""
        turns = np.float32(2 * math.pi / (period * self.size))
        rows = np.arange(shape[0], dtype=np.float32)[:, None] * (turns * np.float32(math.sin(direction)))
        columns = np.arange(shape[1], dtype=np.float32) * (turns * np.float32(math.cos(direction)))
        phase: Array = self.noise(shape, 4) * 1.2 + (rows + self.uniform(0, 6)) + columns
        return np.sin(phase, out=phase)

    def _crop(self, field: Array, shape: tuple[int, int]) -> Array:
        top, left = self.rng.integers(0, [len(field) - shape[0] + 1, len(field) - shape[1] + 1])
        return field[top : top + shape[0], left : left + shape[1]]


def _arrange(brush: _Brush) -> _Layout:
    size = brush.size
    pair = brush.chance(0.2)
    creatures = tuple(_creature(brush, 0.62 if pair else 1.0) for _ in range(2 if pair else 1))
    label = np.zeros((size, size), np.uint8)
    for creature in creatures:
        label[creature.body.box] |= creature.body.cover > 0.5
    occluder = _thing(brush, brush.uniform(0.05, 0.16)) if brush.chance(0.4) else None
    if occluder is not None:
        label[occluder.box] &= occluder.cover <= 0.5
    return _Layout(creatures, occluder, label)


def _creature(brush: _Brush, scale: float) -> _Creature:
    """Draw one creature; lengths are in body lengths, x points from tail to head, y down."""
    rng, size = brush.rng, brush.size
    slim = brush.uniform(0.17, 0.32)  # half the body's height
    neck = brush.uniform(0.0, 0.9)  # how far up the head is, in radians
    reach = brush.uniform(0.42, 0.57)
    head = np.array([reach * math.cos(neck), -reach * math.sin(neck) * 0.9])
    radius = brush.uniform(0.15, 0.23)
    long = radius * brush.uniform(1.0, 1.3)
    parts = [_ellipse(0, 0, 0.5, slim), _ellipse(head[0], head[1], long, radius, brush.uniform(-0.4, 0.4))]
    parts.append(_limb(np.array([(0.25, 0.0), head]), slim * 0.9, radius * 0.8))
    parts += _ears(brush, head, radius)
    parts += _legs(brush, slim)
    along = np.linspace(0, 1, 7)
    lift = brush.uniform(-0.5, 0.35) * along + brush.uniform(-0.3, 0.3) * np.sin(math.pi * along)
    tail = np.stack([-0.42 - 0.45 * along, lift - 0.05], 1)
    parts.append(_limb(tail, brush.uniform(0.05, 0.11), brush.uniform(0.02, 0.09)))
    face = [
        _ellipse(head[0] + 0.25 * long, head[1] - 0.25 * radius, 0.16 * radius, 0.16 * radius),
        _ellipse(head[0] + 0.85 * long, head[1] + 0.1 * radius, 0.2 * radius, 0.16 * radius),
    ]

    unit = size * scale * brush.uniform(0.38, 0.78)
    turn = float(rng.normal(0, 0.35)) if brush.chance(0.8) else brush.uniform(-math.pi, math.pi)
    squeeze = brush.uniform(0.7, 1.0)  # seen at a slant, a creature is shorter
    mirror = -1 if brush.chance(0.5) else 1
    cos, sin = math.cos(turn) * unit, math.sin(turn) * unit
    place = np.array([[cos * squeeze * mirror, sin * squeeze * mirror], [-sin, cos]])
    center = rng.uniform(0.2, 0.8, 2) * size
    canvas, box = _draw(size, [part @ place + center for part in parts], margin=math.ceil(size / 32))
    features, _ = _draw(size, [part @ place + center for part in face], margin=0)
    cover = _blurred(canvas.crop(_corners(box)), size / 90)  # rounded joints, then a furry outline
    shape = (cover.shape[0], cover.shape[1])
    cover += 0.09 * brush.noise(shape, 64) + 0.05 * brush.noise(shape, 16)
    body = _Patch(box, _sharpen(cover, 6))
    return _Creature(body, _blurred(features.crop(_corners(box)), size / 256), turn * mirror)


def _ears(brush: _Brush, head: Points, radius: float) -> list[Points]:
    kind = brush.rng.integers(3)  # pointed, round, hanging
    long = radius * brush.uniform(0.7, 1.3)
    ears = []
    for side in (-0.55, 0.35):
        x, y = head[0] + side * radius, head[1] - 0.75 * radius
        if kind == 0:
            half = 0.42 * radius
            ears.append(np.array([(x - half, y), (x + side * 0.3 * radius, y - long), (x + half, y)]))
        elif kind == 1:
            ears.append(_ellipse(x, y - 0.2 * long, 0.4 * radius, 0.5 * long, side))
        else:
            ears.append(_ellipse(x - 0.2 * radius, y + 0.5 * long, 0.33 * radius, 0.8 * long, 0.3))
    return ears


def _legs(brush: _Brush, slim: float) -> list[Points]:
    thick, length = brush.uniform(0.05, 0.085), brush.uniform(0.12, 0.42)
    parts = []
    for x in (-0.36, 0.34) if brush.chance(0.3) else (-0.36, -0.24, 0.22, 0.34):
        swing, bend = brush.uniform(-0.18, 0.18), brush.uniform(-0.08, 0.08)
        knee, ankle = (x + swing / 2 + bend, (slim + length) / 2), (x + swing, slim * 0.7 + length)
        parts.append(_limb(np.array([(x, 0.0), knee, ankle]), thick * 1.5, thick))
        parts.append(_ellipse(ankle[0] + 0.03, ankle[1], thick * 1.4, thick * 0.8))
    return parts


def _thing(brush: _Brush, radius: float) -> _Patch:
    """Draw a geometric shape: ellipse, triangle, bar or box."""
    size = brush.size
    r, turn = radius * size, brush.uniform(0, 2 * math.pi)
    x, y = brush.rng.uniform(0.0, 1.0, 2) * size
    kind = brush.rng.integers(4)
    if kind == 0:
        outline = _ellipse(x, y, r, r * brush.uniform(0.5, 1), turn)
    elif kind == 1:
        outline = _ellipse(x, y, r, r, turn)[::7]
    else:
        long, slim = (1.6 * r, r * brush.uniform(0.15, 0.35)) if kind == 2 else (r, r * brush.uniform(0.6, 1))
        corners = np.array([(long, slim), (-long, slim), (-long, -slim), (long, -slim)])
        cos, sin = math.cos(turn), math.sin(turn)
        outline = corners @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    canvas, box = _draw(size, [outline], margin=2)
    return _Patch(box, _sharpen(_blurred(canvas.crop(_corners(box)), size / 160), 3))


def _paint(brush: _Brush, layout: _Layout) -> Image.Image:
    rng, size = brush.rng, brush.size
    colors = _palette(rng)
    image = _background(brush, colors[:3])
    for _ in range(rng.integers(3, 8)):
        thing = _thing(brush, brush.uniform(0.08, 0.26))
        if brush.chance(0.3):
            coat = _fur(brush, _shape(thing), colors[1:], brush.uniform(0, math.pi))
        else:
            coat = _plain(brush, _shape(thing), colors[1:])
        _put(image, thing, coat)
    for creature in layout.creatures:
        depth = _blurred(_picture(creature.body.cover), size / 24)  # low near the outline: shading makes it round
        coat = _fur(brush, _shape(creature.body), colors[1:], creature.direction) * (0.78 + 0.27 * depth)
        coat *= 1 - 0.8 * creature.face
        _put(image, creature.body, coat)
    if layout.occluder is not None:
        _put(image, layout.occluder, _plain(brush, _shape(layout.occluder), colors))
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    down, across = float(rng.normal(0, 0.15)), float(rng.normal(0, 0.15))
    image *= brush.uniform(0.85, 1.15) * (
        1 + down * axis[:, None] + across * axis + 0.07 * brush.noise((size, size), 2)
    )
    strength = brush.uniform(0.01, 0.04)
    for channel in image:
        channel += strength * brush.grain((size, size))
    pixels = (image.clip(0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))  # (C, H, W) -> (H, W, C)
    blur = brush.uniform(-0.5, 0.8) * size / 128
    return picture.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else picture


def _palette(rng: Generator) -> Array:
    """Draw five colors, ``(5, 3, 1, 1)``: three for the background, all but the first for the rest."""
    light = rng.uniform(0.2, 0.8) + rng.normal(0, 0.18, (5, 1))
    tint = rng.normal(0, 0.07, 3) + rng.normal(0, 0.07, (5, 3))
    return (light + tint).clip(0.06, 0.95).astype(np.float32)[..., None, None]


def _background(brush: _Brush, colors: Array) -> Array:
    shape = (brush.size, brush.size)
    first, second, third = colors[brush.rng.permutation(3)]
    image = _blend(first, second, _squash(_fractal(brush)))
    image += _squash(3 * _fractal(brush) - 2) * (third - image)
    if brush.chance(0.35):
        image *= 1 + 0.25 * brush.waves(shape, brush.uniform(0, math.pi), brush.uniform(0.05, 0.3))
    image *= 1 + brush.uniform(0.0, 0.15) * brush.noise(shape, 64)
    return image


def _plain(brush: _Brush, shape: tuple[int, int], colors: Array) -> Array:
    """Paint a surface that is not fur: a gradient, stripes or isotropic grain."""
    first, second = _two(brush, colors)
    kind = brush.rng.integers(3)
    if kind == 0:
        return _blend(first, second, _squash(brush.noise(shape, 2)))
    if kind == 1:
        period = brush.uniform(0.06, 0.2)
        return _blend(first, second, 0.5 + 0.5 * brush.waves(shape, brush.uniform(0, math.pi), period))
    return _blend(first, second, _squash(brush.noise(shape, 32)))


def _fur(brush: _Brush, shape: tuple[int, int], colors: Array, direction: float) -> Array:
    """Paint a coat: fine streaks along ``direction``, over spots, stripes or a plain ground."""
    first, second = _two(brush, colors)
    kind = brush.rng.integers(4)
    if kind == 0:
        share = _squash(5 * brush.noise(shape, 16) - 2.5)  # spots
    elif kind == 1:
        share = _squash(3 * brush.waves(shape, direction, brush.uniform(0.08, 0.16)))
    else:
        share = _squash(brush.noise(shape, 4))
    coat = _blend(first, second, share)
    coat *= 1 + brush.uniform(0.12, 0.28) * brush.streaks(shape, direction)
    return coat


def _two(brush: _Brush, colors: Array) -> tuple[Array, Array]:
    first, second = brush.rng.permutation(len(colors))[:2]
    return colors[first], colors[second]


def _fractal(brush: _Brush) -> Array:
    fade, total, weight = brush.uniform(0.45, 0.8), np.zeros((brush.size, brush.size), np.float32), 0.0
    for octave, cells in enumerate(_CELLS[:-1]):
        total += fade**octave * brush.noise(total.shape, cells)
        weight += fade ** (2 * octave)
    total /= math.sqrt(weight)
    return total


def _draw(size: int, outlines: list[Points], margin: int) -> tuple[Image.Image, tuple[slice, slice]]:
    """Fill outlines on a square canvas; their bounding box is a corner pixel if all are outside."""
    canvas = Image.new("L", (size, size))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        draw.polygon(outline.ravel().tolist(), fill=255)
    left, top, right, bottom = canvas.getbbox() or (0, 0, 1, 1)
    rows = slice(max(0, top - margin), min(size, bottom + margin))
    return canvas, (rows, slice(max(0, left - margin), min(size, right + margin)))


def _corners(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = box
    return columns.start, rows.start, columns.stop, rows.stop


def _ellipse(x: float, y: float, half_width: float, half_height: float, turn: float = 0.0) -> Points:
    cos, sin = math.cos(turn), math.sin(turn)
    shape = np.array([[half_width * cos, half_width * sin], [-half_height * sin, half_height * cos]])
    outline: Points = _CIRCLE @ shape + (x, y)
    return outline


def _limb(joints: Points, start: float, end: float) -> Points:
    """Outline a line of joints whose half-width goes from ``start`` to ``end``."""
    steps = joints[1:] - joints[:-1]
    ahead = np.concatenate([steps[:1], steps[1:] + steps[:-1], steps[-1:]])
    across = ahead[:, ::-1] * (-1, 1) / np.sqrt((ahead**2).sum(1, keepdims=True))
    side = across * np.linspace(start, end, len(joints))[:, None]
    return np.concatenate([joints + side, (joints - side)[::-1]])


def _put(image: Array, patch: _Patch, paint: Array) -> None:
    target = image[:, *patch.box]
    target += patch.cover * (paint - target)


def _shape(patch: _Patch) -> tuple[int, int]:
    rows, columns = patch.cover.shape
    return rows, columns


def _sharpen(cover: Array, steepness: float) -> Array:
    sharp: Array = np.clip((cover - 0.5) * steepness + 0.5, 0, 1)
    return sharp


def _squash(values: Array) -> Array:
    """Map values to 0..1 and 0 to 0.5: a sigmoid several times as fast as tanh."""
    squashed: Array = values / (1 + np.abs(values)) * 0.5 + 0.5
    return squashed


def _blend(first: Array, second: Array, share: Array) -> Array:
    return first + share * (second - first)


def _scaled(values: Array) -> Array:
    scaled: Array = values / values.std()
    return scaled


def _picture(cover: Array) -> Image.Image:
    return Image.fromarray((cover * 255).astype(np.uint8))


def _blurred(picture: Image.Image, radius: float) -> Array:
    blurred = picture.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)

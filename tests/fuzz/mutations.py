"""Damage to real files: what disks, networks, editors and attackers do to bytes and to values."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]
"""Takes a file's bytes and returns others."""

TELLING = [
    b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"-1", b"nan", b"1e999", b"[", b"{",
    b"&a *a", b"!!python/object/apply:os.getcwd []", b"../", b"\n", b'"', b": ", b"999999999999",
]  # fmt: skip
"""Bytes that often matter: ends of integer ranges, and what means something in text formats."""


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One to four edits, each at a place that is a share of the length, so that it fits any file."""
    edits = draw(st.lists(_edit(), min_size=1, max_size=4))

    def apply(content: bytes) -> bytes:
        for edit in edits:
            content = edit(content)
        return content

    return apply


@st.composite
def mended(draw: st.DrawFn) -> Damage:
    """Damage to a chunk of a PNG, or to its rows before compression, with right checksums; any to another file."""
    damage, place = draw(damages()), draw(st.integers(0, 9_999)) / 10_000
    inside, every_kind = draw(st.booleans()), draw(st.booleans())

    def apply(content: bytes) -> bytes:
        if not content.startswith(_PNG):
            return damage(content)
        chunks = _chunks(content)
        chosen = [number for number, (kind, _) in enumerate(chunks) if every_kind or kind == b"IDAT"]
        number = chosen[int(place * len(chosen))]
        kind, data = chunks[number]
        is_inside = inside and kind == b"IDAT"
        chunks[number] = kind, zlib.compress(damage(zlib.decompress(data))) if is_inside else damage(data)
        return _PNG + b"".join(chunk(*each) for each in chunks)

    return apply


_PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Bytes of a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(_PNG)
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        found.append((kind, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _edit() -> st.SearchStrategy[Damage]:
    place = st.integers(0, 9_999).map(lambda part: part / 10_000)
    length = st.integers(1, 64) | st.integers(65, 4096)
    some = st.sampled_from(TELLING) | st.binary(min_size=1, max_size=16)
    return st.one_of(
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_overwrite, place, some),
        st.builds(_insert, place, some),
        st.builds(_remove, place, length),
        st.builds(_repeat, place, length),
        st.builds(_cut, place),
    )


def _flip(place: float, bit: int) -> Damage:
    def apply(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + bytes(byte ^ 1 << bit for byte in content[at : at + 1]) + content[at + 1 :]

    return apply


def _overwrite(place: float, new: bytes) -> Damage:
    def apply(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + new + content[at + len(new) :]

    return apply


def _insert(place: float, new: bytes) -> Damage:
    def apply(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + new + content[at:]

    return apply


def _remove(place: float, length: int) -> Damage:
    def apply(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[:at] + content[at + length :]

    return apply


def _repeat(place: float, length: int) -> Damage:
    def apply(content: bytes) -> bytes:
        at = int(place * len(content))
        return content[: at + length] + content[at:]

    return apply


def _cut(place: float) -> Damage:
    return lambda content: content[: int(place * len(content))]


def odd_values() -> st.SearchStrategy[Any]:
    """A value that nobody expects where another one stood: plain ones, as JSON, YAML and a state dict may hold them."""
    plain = (
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.integers(-3, 300)
        | st.floats()
        | st.text(st.characters(codec="utf-8"), max_size=12)
        | st.sampled_from(["../../x", "/dev/zero", "a\0b", "timm", "scratch", "resnet18", "nan", "$x", "inf", "true"])
    )
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    )

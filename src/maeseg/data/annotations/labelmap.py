"""Reader of CVAT's ``labelmap.txt``: class colors of its "segmentation mask" and Pascal VOC exports."""

from pathlib import Path

from maeseg.data.annotations.content import locating, read_content


def read_labelmap(path: Path) -> dict[str, tuple[int, int, int]]:
    """Read names and colors, in the file's order; ``background`` is included if the file has it.

    A line is ``name:red,green,blue:parts:actions``; the last two fields are ignored. ``#`` begins a comment.

    Args:
        path: The file.

    Returns:
        Color (red, green, blue), 0 to 255 each, by name.

    Raises:
        DataError: The file is damaged or empty, or has a name or color twice.
    """
    content = read_content(path, 2**20)
    colors: dict[str, tuple[int, int, int]] = {}
    with locating(str(path)):
        lines = content.decode("utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            with locating(f"{path}: line {number}"):
                name, color = _parse(line)
                if name in colors or color in colors.values():
                    raise ValueError(f"the name {name!r} or the color {color} occurs twice")
                colors[name] = color
    with locating(str(path)):
        if not colors:
            raise ValueError("no line of the form name:red,green,blue::")
    return colors


def _parse(line: str) -> tuple[str, tuple[int, int, int]]:
    name, *rest = line.strip().rsplit(":", 3) if line.count(":") >= 3 else line.strip().split(":", 1)
    channels = rest[0].split(",") if rest else []
    if not name or len(channels) != 3:
        raise ValueError("not of the form name:red,green,blue::")
    red, green, blue = (int(channel) for channel in channels)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"the color {red},{green},{blue} is outside 0 to 255")
    return name.strip(), (red, green, blue)

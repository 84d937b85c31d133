"""Reader of YAML for every file and option: plain values, bounded in size, nesting and number of values.

Aliases are allowed, as recipes share options by them, but each use counts as many values as it stands for: thirty lines
of aliases stand for a thousand million values, and the first traversal of these takes all memory.
"""

from typing import Any

import yaml

from maeseg.errors import in_one_line

MOST_CHARACTERS = 2**20
"""Maximum length of a document."""
MOST_VALUES = 10_000
"""Maximum number of values of a document, with aliases replaced by what they stand for; 100 characters of a text count
as one."""
DEEPEST = 50
"""Maximum nesting of lists and mappings."""


class BeyondBounds(yaml.YAMLError):
    """YAML with more characters, values or nesting than permitted."""


class _Bounded(yaml.SafeLoader):
    """PyYAML's loader of plain values, which stops at the first value beyond a bound."""

    def __init__(self, content: str | bytes) -> None:
        super().__init__(content)
        self._count = self._depth = 0
        self._counts: dict[yaml.Node, int] = {}  # of finished nodes

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, and count the values in it."""
        before = self._count
        event = self.peek_event()  # type: ignore[no-untyped-call]
        longer = len(event.value) // 100 if isinstance(event, yaml.ScalarEvent) else 0
        self._count, self._depth = self._count + 1 + longer, self._depth + 1
        self._check()
        is_alias = isinstance(event, yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias:
            if node not in self._counts:
                raise BeyondBounds("an alias stands for a value that contains it")
            self._count = before + self._counts[node]
            self._check()
        elif node is not None:
            self._counts[node] = self._count - before
        self._depth -= 1
        return node

    def _check(self) -> None:
        if self._count > MOST_VALUES:
            raise BeyondBounds(f"more than {MOST_VALUES} values, with aliases replaced by what they stand for")
        if self._depth > DEEPEST:
            raise BeyondBounds(f"more than {DEEPEST} nested lists and mappings")


def read_yaml(content: str | bytes) -> Any:
    """Read the plain values of a YAML document.

    Raises:
        ValueError: The content is not YAML, constructs an object, or exceeds a bound; the message is one line.
    """
    try:
        return _open(content).get_single_data()
    except Exception as error:  # for an odd value with a tag PyYAML raises IndexError, AttributeError and more
        raise ValueError(in_one_line(error)) from error


def check_yaml(content: str | bytes) -> None:
    """Compare a YAML document with the bounds, without constructing its values.

    Raises:
        yaml.YAMLError: The content is not YAML, or exceeds a bound.
    """
    _open(content).get_single_node()


def check_texts(value: Any) -> None:
    """Compare the texts in a value with the bounds, as if each were YAML; those that are not YAML pass.

    Raises:
        BeyondBounds: A text exceeds a bound.
    """
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            check_texts(each)
    elif isinstance(value, str) and "&" in value and "*" in value:  # the signs of aliases
        try:
            check_yaml(value)
        except BeyondBounds:
            raise
        except yaml.YAMLError:
            pass


def _open(content: str | bytes) -> _Bounded:
    if len(content) > MOST_CHARACTERS:
        raise BeyondBounds(f"more than {MOST_CHARACTERS} characters")
    return _Bounded(content)

"""Text from outside - sheets, slides, models, label files - that no screen, log or spreadsheet acts on."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What turns the direction of text, or is not seen at all. Joiners (U+200C, U+200D) spell words and stay.
_HIDDEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# What stands for a byte that is no UTF-8 in the name of a file; it cannot be written as UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")

# Of signs and numbers alone no formula can be made: they have nothing to call and no cell to name.
_HARMLESS = re.compile(r"[+\-/ ]+|[+-]?(?=[.,]*\d)[\d.,]+([eE][+-]?\d+)?\s?%?")
# A semicolon begins a new cell where a spreadsheet takes it for the separator.
_FORMULA = re.compile(r"(^|;)(\s*(?:\"\s*)?)(?=[=+\-@\uff0b\uff0d\uff1d\uff20])")


def one_line(text: str) -> str:
    """Return text as one line that cannot steer a terminal.

    Control characters, line ends included, become single spaces; marks that turn the direction of text or
    cannot be seen are dropped.
    """
    return _flat(text).strip()


def cut(text: str, most: int = 2000) -> str:
    """Return a long text without its middle: of a message, the end holds the cure."""
    return text if len(text) <= most else f"{text[: most - 505]} ... {text[-500:]}"


def each_line(text: str) -> str:
    """Return text with every line as `one_line` makes it, but for its indent."""
    return "\n".join(_flat(line).rstrip() for line in text.split("\n"))


def _flat(text: str) -> str:
    return _CONTROL.sub(" ", _SURROGATE.sub("\ufffd", _HIDDEN.sub("", text)))


def is_inert(text: str) -> bool:
    """Say whether text already is as `one_line` makes it."""
    return text == one_line(text)


def safe_text(text: str) -> str:
    """Make text harmless in a spreadsheet: one line, and no formula.

    A text that begins with `=`, `+`, `-` or `@` (or does so after a semicolon) gets a single quote before
    it. Numbers with a sign stay as they are, and so do signs alone, as in a column of `+`, `-` and `+/-`.

    References
    ----------
    OWASP, CSV Injection.
    """
    flat = one_line(text)
    return flat if _HARMLESS.fullmatch(flat) else _FORMULA.sub(r"\1'\2", flat)


def shown(text: object, most: int = 80) -> str:
    """Return what a person wrote in quotes, as a message can hold it: its beginning, where it is long."""
    quoted = repr(text[: most + 1] if isinstance(text, str) else text)
    return quoted if len(quoted) <= most + 2 else quoted[:most] + "..."


def first_few(lines: Iterable[str], most: int = 20) -> list[str]:
    """Return the first lines, and how many more there are."""
    listed = list(lines)
    more = len(listed) - most
    return listed if more <= 0 else [*listed[:most], f"and {more:,} more like these"]

"""Files that were sound once, and what somebody may have done to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from ercohort.errors import ErcohortError
from ercohort.inert import is_inert
from tests.fuzz.conftest import EXAMPLES

fuzz = settings(settings.get_profile("many" if EXAMPLES else "few"))
"""Decorates every test here."""

TEXTS = (
    "", " ", "=1+1", "+1", "-1", "@SUM(A1)", "\t", "\r", "\n", "\x00", "\x1b[31m", "\u202egpj", "\u2028",
    "\ufeff",
    "../../etc/passwd", "/dev/zero", "/", ".", "..", "-rf", "$(touch x)", "`x`", "{slide}", "{0.__class__}",
    "<script>", "[/x]", "%s%n", "'", '"', '""', "\\", "\ud800", "é", "🧬", "nan", "inf", "-inf", "1e999",
    "1_0", "0x1",
    "null", "true", "~", "NaN", "9" * 400, "a" * 5000, "con", "CON.tif", "slide_id", "path", "mpp",
)  # fmt: skip
"""What breaks readers."""

texts = st.one_of(
    st.sampled_from(TEXTS), st.text(max_size=12), st.lists(st.sampled_from(TEXTS), max_size=3).map("".join)
)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e308, 5e-324, 1e9, -0.0, 0.005]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def changed_bytes(draw: st.DrawFn, sound: bytes, tokens: tuple[bytes, ...] = ()) -> bytes:
    """Change, remove, double or insert a few pieces of a sound file."""
    content = sound
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        piece = content[at : at + length]
        new = draw(
            st.one_of(
                st.just(b""),
                st.just(piece * 2),
                st.binary(max_size=12),
                st.sampled_from([*tokens, *(text.encode("utf-8", "surrogatepass") for text in TEXTS)]),
                st.just(bytes(byte ^ 0xFF for byte in piece)),
            )
        )
        content = content[:at] + new + content[at + length :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 9)) == 0 else content


@st.composite
def changed_tree(draw: st.DrawFn, sound: Any) -> Any:
    """Put something else into a few places of a JSON document."""
    tree = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        tree = _replaced(draw, tree)
    return tree


def _replaced(draw: st.DrawFn, tree: Any) -> Any:
    if isinstance(tree, dict | list) and tree and draw(st.integers(0, 5)):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = draw(st.sampled_from(keys))
        action = draw(st.integers(0, 9))
        if action == 0:
            del tree[key]
        elif action == 1 and isinstance(tree, dict):
            tree[draw(texts)] = tree[key]
        elif action == 1:
            tree.insert(0, tree[key])
        else:
            tree[key] = _replaced(draw, tree[key])
        return tree
    return draw(values)


def readable_errors_only(read: Callable[[], Any]) -> Any:
    """Return what the reader returns; None where it refuses, in lines that a person can read."""
    try:
        return read()
    except ErcohortError as error:
        lines = str(error).split("\n")
        assert lines != [""]
        for line in lines:
            assert is_inert(line), line
            assert 10 < len(line) <= 2000, line
            line.encode()
        return None

"""A few SVG elements as text, with numbers written shortly and always alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal
from xml.sax.saxutils import escape

INK = "#222222"
_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
# Of the font's size; an average letter of a wide sans-serif font is narrower.
_LETTER_WIDTH = 0.53

Points = Sequence[tuple[float, float]]


def document(width: float, height: float, parts: Iterable[str], title: str) -> str:
    """A whole picture on white."""
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    content = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>\n{content}\n</svg>\n'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    anchor: Literal["start", "middle", "end"] = "start",
    colour: str = INK,
    bold: bool = False,
) -> str:
    """Words whose baseline starts, is centred or ends at (x, y)."""
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{_n(x)}" y="{_n(y)}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{weight}>{escape(words)}</text>'


def line(points: Points, colour: str, stroke: float) -> str:
    """A path of straight pieces with rounded corners."""
    return (
        f'<polyline points="{_points(points)}" fill="none" stroke="{colour}" stroke-width="{_n(stroke)}" '
        'stroke-linejoin="round" stroke-linecap="round"/>'
    )


def polygon(points: Points, fill: str) -> str:
    """A filled shape."""
    return f'<polygon points="{_points(points)}" fill="{fill}"/>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float) -> str:
    """A rectangle with rounded corners."""
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}"/>'


def width_of(words: str, size: int) -> float:
    """A generous guess at how wide the words are."""
    return len(words) * size * _LETTER_WIDTH


def _points(points: Points) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")

"""Criteo's display advertising log: 40 tab-separated columns without header; click, 13 counts, 26 hashed categories; no time.

https://www.kaggle.com/c/criteo-display-ad-challenge: rows stand in the order of time, so their order is the log's time.
"""

from __future__ import annotations

from components.sources.reader import fixed_text_reader
from components.sources.text import TextLayout

COLUMNS = ("click", *(f"I{number}" for number in range(1, 14)), *(f"C{number}" for number in range(1, 27)))
LAYOUT = TextLayout(separator="\t", quote=None, has_header=False, columns=COLUMNS, ignored=frozenset())

READER = fixed_text_reader("criteo", LAYOUT)

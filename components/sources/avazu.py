"""Avazu's mobile advertising log: 24 comma-separated columns with a header; `hour` is the time as %y%m%d%H, `id` the impression.

https://www.kaggle.com/c/avazu-ctr-prediction
"""

from __future__ import annotations

from components.sources.reader import fixed_text_reader
from components.sources.text import TextLayout

COLUMNS = (
    *("id", "click", "hour", "C1", "banner_pos"),
    *("site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{number}" for number in range(14, 22)),
)
LAYOUT = TextLayout(separator=",", quote=None, has_header=True, columns=COLUMNS, ignored=frozenset())

READER = fixed_text_reader("avazu", LAYOUT)

"""Bringing a log near: which files the window needs, a copy of each named by its digest, and the manifest.

The only place that reads other people's storage; through fsspec, so a path may be local or s3://.
"""

from __future__ import annotations

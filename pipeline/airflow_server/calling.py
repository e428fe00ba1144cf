"""The REST API of a server on loopback: one call, its JSON, and what the server says where it refuses."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT_SECONDS = 60.0  # of one call; a busy machine is slow to answer


class Refused(Exception):  # noqa: N818 - an answer
    """The server refused a call: the HTTP status, and its words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status


def request(method: str, url: str, content: Any, token: str) -> Any:
    """One call with a JSON body (None for no body); gives the JSON that comes back, raises Refused or URLError."""
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    asked = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code, error.read().decode(errors="replace")) from error
    return json.loads(text) if text else None

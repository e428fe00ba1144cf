"""What somebody might write into a manifest to read, write or exhaust what is not the folder's: 91 ways."""

from __future__ import annotations

import hashlib
import json

from components.manifest import MANIFEST

HOSTILE_PATHS = {
    "climbs out": "../outside.json",
    "climbs out and back": "scorer/../../folder/card.md",
    "climbs within": "scorer/../card.md",
    "absolute": "/etc/passwd",
    "double slash": "//etc/passwd",
    "drive letter": "C:/card.md",
    "drive without slash": "C:card.md",
    "backslashes": "..\\outside.json",
    "backslash inside": "scorer\\model.onnx",
    "network share": "\\\\host\\share\\card.md",
    "dot": ".",
    "two dots": "..",
    "leading dot part": "./card.md",
    "dot part inside": "scorer/./model.onnx",
    "empty": "",
    "only a slash": "/",
    "trailing slash": "card.md/",
    "empty part": "scorer//model.onnx",
    "null byte": "card.md\0.json",
    "line break": "card.md\n",
    "carriage return": "card\r.md",
    "escape sequence": "card\x1b[2J.md",
    "right-to-left override": "card\u202edm.exe",
    "zero width space": "card\u200b.md",
    "lone surrogate": "card\ud800.md",
    "leading space": " card.md",
    "trailing space": "card.md ",
    "glob": "*.md",
    "question mark": "card?.md",
    "pipe": "card|md",
    "too long": "a" * 5_000,
    "too deep": "/".join(["a"] * 40),
    "address": "https://example.org/card.md",
    "file address": "file:///etc/passwd",
    "the manifest itself": MANIFEST,
    "percent-encoded climb is just absent": "%2e%2e/outside.json",
    "home": "~/card.md",
    "no such file": "scorer/other.onnx",
    "folder as a file": "scorer",
}

HOSTILE_NUMBERS: dict[str, str] = {
    "negative": "-1",
    "one too few": "2",
    "one too many": "4",
    "float": "3.0",
    "exponent": "3e0",
    "infinite": "1e999",
    "hundred digits": "9" * 100,
    "thousands of digits": "9" * 4_200,
    "beyond what int() reads": "9" * 6_000,
    "NaN": "NaN",
    "Infinity": "Infinity",
    "text": '"3"',
    "true": "true",
    "null": "null",
    "list": "[3]",
    "two to the 64": str(2**64),
}

HOSTILE_DIGESTS: dict[str, object] = {
    "of another file": hashlib.sha256(b"other").hexdigest(),
    "upper case": hashlib.sha256(b"abc").hexdigest().upper(),
    "short": "ab",
    "long": "a" * 65,
    "no hexadecimal": "g" * 64,
    "full-width digits": "１" * 64,
    "empty": "",
    "a number": 7,
    "null": None,
    "list": [],
    "with prefix": "sha256:" + hashlib.sha256(b"abc").hexdigest(),
}

HOSTILE_WHOLES: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"files": [{"path": "card.md", "sha25',
    "cut inside a character": '{"files": "é'.encode()[:-1],
    "not UTF-8": b'{"files": [\xff\xfe]}',
    "UTF-16": '{"files": []}'.encode("utf-16"),
    "null": b"null",
    "a number": b"7",
    "a text": b'"files"',
    "a list": b"[]",
    "no files": b"{}",
    "files null": b'{"files": null}',
    "files a mapping": b'{"files": {"card.md": "x"}}',
    "files a text": b'{"files": "card.md"}',
    "entries numbers": b'{"files": [1, 2, 3]}',
    "entries empty": b'{"files": [{}]}',
    "an unknown key": b'{"files": [], "run": "rm -rf /"}',
    "a key twice": b'{"files": [], "files": []}',
    "nested a hundred thousand deep": b"[" * 100_000,
    "nested deep and closed": b'{"files": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "two documents": b'{"files": []}{"files": []}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00",
    "a gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "names nothing": b'{"files": []}',
    "too many files": json.dumps(
        {"files": [{"path": f"f{n}", "sha256": "a" * 64, "num_bytes": 1} for n in range(10_001)]}
    ).encode(),
    "too large": b'{"files": [], "padding": "' + b"a" * (17 << 20) + b'"}',
}

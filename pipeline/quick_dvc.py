"""`dvc repro --single-item --no-run-cache STEP` in half its time, as `python -m pipeline.quick_dvc STEP`.

DVC (3.67) reads and writes the whole lock file with ruamel's parser in pure Python, which keeps comments: a second a step for our 3,000
lines, more than all else it does for one. Here the entry that changes is written so, and put in place of the old one in the
text; the bytes are those of DVC (a test holds that). A lock file that is not laid out as DVC does it is left to DVC. DVC writes
in place, so a kill in these milliseconds leaves half a file; here it is seen whole or not at all. Nor are DVC's other commands imported.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc import dvcfile
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, modify_yaml
from ruamel.yaml import YAML

_FAILED = 255  # as DVC's command line
_HEAD = "schema: '2.0'\nstages:\n"
_ENTRY = re.compile(r"^  (\w+):\n((?:   .*\n)+)", re.MULTILINE)


def reproduce_step(step: str) -> int:
    """Reproduce one step of the project around; 0, or 255 where it or DVC failed, which is said on stderr."""
    dvcfile.modify_yaml = modified
    try:
        with Repo() as repo:
            repo.scm_context.quiet = True  # no advice on git: who runs one step by itself is mostly a scheduler
            if not repo.reproduce([step], single_item=True, run_cache=False):
                print(f"{step} has nothing to do.")
    except DvcException as error:
        print(f"ERROR: {': '.join(_causes(error))}", file=sys.stderr)
        return _FAILED
    return 0


@contextmanager
def modified(path: str, fs: Any = None) -> Iterator[Any]:
    """What DVC asks for by `modify_yaml`: the content of a file to change, written back at the end."""
    lock = Path(path)
    texts = _entries(lock.read_text("utf-8") if lock.is_file() else _HEAD) if lock.name == dvcfile.LOCK_FILE else None
    if texts is None:
        with modify_yaml(path, fs=fs) as content:
            yield content
        return
    before = YAML(typ="safe").load(lock.read_text("utf-8"))["stages"] if texts else {}
    content = {"schema": "2.0", "stages": dict(before)}
    yield content
    for name, entry in content["stages"].items():
        if entry is not before.get(name):
            texts[name] = dumps_yaml({"stages": {name: entry}}).removeprefix("stages:\n")
    _write_whole(lock, _HEAD + "".join(texts[name] for name in content["stages"]))


def _write_whole(lock: Path, text: str) -> None:
    """Write it beside its place first: a kill leaves the lock as it was. DVC holds a lock of its own, so one name does."""
    new = lock.parent / ".dvc" / "tmp" / "dvc.lock.new"
    new.parent.mkdir(parents=True, exist_ok=True)
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(lock)


def _causes(error: BaseException | None) -> list[str]:
    """What went wrong, and why, and why that."""
    return [str(error), *_causes(error.__cause__)] if error is not None else []


def _entries(text: str) -> dict[str, str] | None:
    """Step -> the text of its entry, in order; None where there is anything else in the file."""
    entries = {found[1]: found[0] for found in _ENTRY.finditer(text)}
    return entries if text == _HEAD + "".join(entries.values()) else None


if __name__ == "__main__":
    sys.exit(reproduce_step(sys.argv[1]))

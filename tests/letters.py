"""An artifact of two files that must agree, for tests of what is seen while it is written; imports little, as its writers are killed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.errors import IntegrityError
from pipeline.run import Workspace


@dataclass(frozen=True)
class Letters:
    text: str

    def save(self, folder: Path) -> None:
        (folder / "one.txt").write_text(self.text)
        (folder / "deep").mkdir()
        (folder / "deep" / "two.txt").write_text(self.text)

    @classmethod
    def load(cls, folder: Path) -> Self:
        one, two = (folder / "one.txt").read_text(), (folder / "deep" / "two.txt").read_text()
        if one != two:
            raise IntegrityError("two halves of different artifacts")
        return cls(one)


if __name__ == "__main__":
    for number in range(100_000):
        Workspace(Path(sys.argv[1])).write("letters", Letters(str(number) * 1000))
        if number == 0:
            print("ready", flush=True)

"""What a training or a search takes, also where it was stopped and went on in another process."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path


class Stopwatch:
    """Seconds of a training or search, those of its earlier, stopped parts included (not of killed ones); kept beside its checkpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "spent.json"
        self.seconds = self.core_seconds = 0.0

    def __enter__(self) -> Stopwatch:
        if self._file.is_file():
            self.seconds, self.core_seconds = json.loads(self._file.read_text(encoding="utf-8"))
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started[0]
        self.core_seconds += time.process_time() - self._started[1]
        if self._folder.is_dir():
            self._file.write_text(json.dumps([self.seconds, self.core_seconds]), encoding="utf-8")

    def forget(self) -> None:
        """Remove the checkpoint: the result is kept."""
        shutil.rmtree(self._folder)

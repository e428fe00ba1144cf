"""An artifact is seen whole or not at all, whatever happens while it is made."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.errors import ConfigError, OutsideError, Stopped
from pipeline.run import StopFlag, Workspace, stop_signals
from tests.letters import Letters

REPO = Path(__file__).parents[1]


class Unwritable(Letters):
    def save(self, folder: Path) -> None:
        (folder / "one.txt").write_text("half")
        raise OSError(28, "No space left on device")


def test_what_is_written_is_read_back_and_replaced_whole(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for text in ("first", "second"):
        workspace.write("letters", Letters(text))
        assert workspace.read("letters", Letters) == Letters(text)
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["letters"]


def test_a_full_disk_leaves_the_earlier_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.write("letters", Letters("good"))
    with pytest.raises(OutsideError, match=r"No space left on device\); the earlier artifact stays"):
        workspace.write("letters", Unwritable("bad"))
    assert workspace.read("letters", Letters) == Letters("good")
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["letters"]


def test_an_absent_artifact_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'letters' is not there yet; run the stage that makes it"):
        Workspace(tmp_path).read("letters", Letters)


def test_a_writer_killed_at_any_moment_never_shows_a_half(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.letters", str(tmp_path)]
    workspace = Workspace(tmp_path)
    for round_number in range(8):
        with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            until = time.monotonic() + 0.02 * (round_number + 1)
            try:
                while time.monotonic() < until:
                    workspace.read("letters", Letters)
            finally:
                process.kill()
        workspace.read("letters", Letters)


def test_a_signal_waits_for_a_stage_that_asks_and_ends_one_that_does_not() -> None:
    flag = StopFlag()
    with pytest.raises(Stopped) as stopped, stop_signals(flag):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 143
    flag = StopFlag()
    with stop_signals(flag):
        assert flag() is None
        signal.raise_signal(signal.SIGINT)
        assert flag() == signal.SIGINT


def _stop_in_a_library() -> None:
    """As torch's export does it: every Exception within is told as its own."""
    with stop_signals(StopFlag()):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception as error:
            raise RuntimeError("a pass of the export failed") from error


def test_a_library_that_takes_every_exception_for_its_own_does_not_swallow_the_signal() -> None:
    with pytest.raises(Stopped, match="stopped by signal 15") as stopped:
        _stop_in_a_library()
    assert stopped.value.exit_code == 143

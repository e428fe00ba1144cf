"""Imported at the start of Python where this folder is on PYTHONPATH: the process gives way to other sessions.

Where the kernel shares the processors out by session (sched(7), autogroup), `nice` alone counts only among a session's own.
How far, a nice value, CTR_GIVE_WAY says.
"""

import os
from contextlib import suppress
from pathlib import Path

with suppress(OSError):
    Path("/proc/self/autogroup").write_text(os.environ.get("CTR_GIVE_WAY", "3"))

"""What every command of ours says to the libraries that it loads, where the environment does not say it already."""

from __future__ import annotations

TELEMETRY_OFF = {"GX_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

# A thread that waits for its next piece turns in place for as long as waking it would take, then gives way.
WAITING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}

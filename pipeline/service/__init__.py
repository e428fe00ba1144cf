"""The scoring service around one bundle: /score, /livez, /readyz, /metrics; what it answers it writes to the served log.

A score is the scorer's own, whether a request holds one row or a thousand. Importing this never imports torch.
SIGTERM: /readyz says 503 at once, requests are answered for `drain_seconds` more, then the process ends with 0.
"""

from pipeline.service.app import ServedBundle, ServeParams, Service, load_bundle
from pipeline.service.process import serve

__all__ = ["ServeParams", "ServedBundle", "Service", "load_bundle", "serve"]

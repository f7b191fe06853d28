"""This process, as others know it."""

from __future__ import annotations

import os
import socket


def process_name() -> str:
    """Host and process id: leases, attempts and jobs name it."""
    return f"{socket.gethostname()}:{os.getpid()}"

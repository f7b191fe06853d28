"""This process: its name, its collector, and what use cases are told of the settings under it."""

from __future__ import annotations

import gc
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.delivery.work import DeliverySettings
    from app.retention.run import PurgeSettings
    from config import Settings


def process_name() -> str:
    """Host and process id: leases, attempts and jobs name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def delivery_settings(settings: Settings) -> DeliverySettings:
    """How this process holds and writes its batches."""
    from app.delivery.work import DeliverySettings  # noqa: PLC0415 - for what delivers

    return DeliverySettings(
        process_name(), settings.lease, settings.group_size, settings.group_wait
    )


def purge_settings(settings: Settings) -> PurgeSettings:
    """How this process purges."""
    from app.retention.run import PurgeSettings  # noqa: PLC0415 - for what purges

    return PurgeSettings(process_name(), settings.lease, settings.purge_share, settings.archive_dir)


def freeze_loaded() -> None:
    """Keep Python's cycle collector from scanning what is loaded by now, which stays until the end."""
    gc.collect()
    gc.freeze()

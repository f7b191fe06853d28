"""`celery -A celery_app worker`, `… beat` and `… flower`: the application, of the configuration
found here.
"""

from __future__ import annotations

import sys

from app.configuration.checks import load
from app.configuration.loaded import Loaded
from app.core.errors import RowrelayError
from tasks.application import make_application
from tasks.signals import connect_signals

try:
    app = make_application(Loaded(load()))
except RowrelayError as error:
    sys.exit(f"rowrelay: {error}")

connect_signals(app)

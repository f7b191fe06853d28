"""Words that pages take from values rather than from templates, for the catalogues' sake: whoever looks for
what is to be translated finds them here."""

from __future__ import annotations


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for it
    """A text that is translated where it is shown."""
    return text


ROLES = (N_("viewer"), N_("operator"), N_("admin"))
PERMISSIONS = (
    N_("look"),
    N_("own profile"),
    N_("leave feedback"),
    N_("reveal a payload"),
    N_("replay, cancel and acknowledge deliveries"),
    N_("pause, resume and rewind feeds"),
    N_("run jobs"),
    N_("export deliveries"),
    N_("read the audit log"),
    N_("manage users"),
    N_("manage origins"),
    N_("manage tokens and API keys"),
)

TITLES = (N_("Conflict"), N_("Not Found"), N_("Method Not Allowed"))
"""Of pages that say what was wrong."""
VALUES = (N_("a number"), N_("a text"), N_("a list"), N_("a table"), N_("a date"), N_("valid JSON"))
"""What a field of a form takes (`app/core/wrong_values.py`)."""
JOBS = (N_("waits"), N_("late"), N_("due"))
"""How a periodic job stands (`app/reads/jobs.py`)."""
FIGURES = (
    N_("retries"),
    N_("statuses"),
    N_("none"),
    N_("open"),
    N_("through"),
    N_("new"),
    N_("missing"),
    N_("delivery"),
)
"""Of reports and certificates."""

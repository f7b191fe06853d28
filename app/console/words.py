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

"""What a client asked of the ledger's server, as it went over the wire."""

from __future__ import annotations

from pymongo.monitoring import CommandListener, CommandStartedEvent

from app.ledger.client import Document


class Overheard(CommandListener):
    """The questions put to the server, as they went over the wire."""

    def __init__(self) -> None:
        self.questions: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate"):
            self.questions.append(dict(event.command))

    def succeeded(self, event: object) -> None:
        del event

    def failed(self, event: object) -> None:
        del event

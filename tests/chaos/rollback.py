"""What a member undid when it came back to a set that had gone on without it: read from the files
it leaves.

A member that rolls back writes each document it removes or replaces to `rollback/<collection's
UUID>/removed.*.bson`: https://www.mongodb.com/docs/manual/core/replica-set-rollbacks/
"""

from __future__ import annotations

from collections import Counter

import bson
import pymongo

from app.testbed.embedded.replica_set import EmbeddedReplicaSet, Member
from app.testbed.embedded.servers import DATABASE
from tests.chaos.replica_set import Client

MARKS = "marks"
"""Their collection, which is not one of Rowrelay's."""


class Marks:
    """Documents that tell what stays and what is undone."""

    def __init__(self, members: EmbeddedReplicaSet) -> None:
        self._url = members.url
        with pymongo.MongoClient(self._url) as client:  # type: ignore[var-annotated]
            client[DATABASE].create_collection(MARKS)

    def confirm(self, name: str) -> None:
        """Write a mark that a majority has."""
        with Client(self._url, w="majority") as client:
            client[DATABASE][MARKS].insert_one({"_id": name})

    def leave(self, alone: Client, name: str) -> None:
        """Write a mark that a single member acknowledges, which is all that is asked."""
        marks = alone[DATABASE].get_collection(MARKS, write_concern=pymongo.WriteConcern(w=1))
        assert marks.insert_one({"_id": name}).acknowledged

    def found(self) -> set[str]:
        """The marks that a majority has."""
        with Client(self._url, readConcernLevel="majority") as client:
            return {document["_id"] for document in client[DATABASE][MARKS].find()}


def rolled_back(members: EmbeddedReplicaSet, member: Member) -> Counter[str]:
    """Collection → documents that the member removed, or put back to what they were."""
    with Client(members.url) as client:
        names = {
            str(info["info"]["uuid"].as_uuid()): info["name"]
            for info in client[DATABASE].list_collections()
        }
    undone: Counter[str] = Counter()
    for file in (member.directory / "data" / "rollback").glob("*/*.bson"):
        undone[names.get(file.parent.name, file.parent.name)] += len(
            bson.decode_all(file.read_bytes())
        )
    return undone

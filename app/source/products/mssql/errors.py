"""SQL Server's error numbers: which are worth a retry, which are not, and what an operator can do
about one.

Sources of the numbers that are worth a retry, all Microsoft's own lists; a number stands under the
first that has it:

- SC: Microsoft.Data.SqlClient, the default list of `SqlConfigurableRetryFactory`;
- EF: Entity Framework Core, `SqlServerTransientExceptionDetector`, without what only changes of
  schema can meet;
- JDBC: Microsoft's JDBC driver, `SQLServerError.TransientError`;
- AZ: Microsoft Learn, "Troubleshoot common connection issues to Azure SQL Database".

`PERMANENT` and `BY_VALUE` go by families: what a statement, a name, a right or a type cannot be;
and what one row may be the only cause of. Most of their numbers were looked up in the lists of
messages behind Microsoft Learn's "Database Engine events and errors" (MicrosoftDocs/sql-docs,
relational-databases/errors-events/includes). These leave some out: 289, 2628, 13608 to 13624 and
13908 are told by published outputs of servers. Without a source of their own are 102, 156, 238,
296, 298, 529, 911, 916, 978, 1088, 4104, 4121, 4413, 15247, 18452, 18456, 18470 and 18486.

A number in no table is tried again: that loses nothing, and its message stands in `status` and
`doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from app.core.shown import one_line

RETRYABLE: Mapping[int, str] = {
    # SC
    -2: "the statement took too long",
    20: "connection lost while encryption was agreed on",
    64: "connection lost during the login",
    233: "connection lost before the login",
    997: "connection lost during the login",
    1204: "the server is out of locks",
    1205: "chosen as the victim of a deadlock",
    1222: "another transaction held a lock for too long",
    4060: "the database cannot be opened: it fails over, is paused, or does not exist (the server does not say which)",
    4221: "a read-only replica is not ready for logins",
    10053: "connection aborted",
    10054: "connection reset",
    10060: "no answer while connecting",
    10928: "a limit of the database is reached",
    10929: "the server is too busy",
    40143: "service error",
    40197: "service error: failing over",
    40501: "the service is busy",
    40540: "service error",
    40613: "the database is not available now",
    49918: "not enough resources",
    49919: "too many operations",
    49920: "too many operations for the subscription",
    # EF
    121: "connection lost: semaphore timeout",
    203: "connection lost before the login",
    615: "the database may be offline",
    1203: "a lock was lost",
    1221: "locks were lost",
    1232: "the lock service failed",
    2816: "the table's metadata has changed",
    3635: "metadata could not be read now",
    3947: "a replica fell behind",
    3948: "a replica's state changed",
    3950: "the version store is too busy",
    3953: "the database was not recovered yet",
    3957: "snapshots were not allowed yet",
    3960: "row changed under a snapshot",
    3966: "the row version is gone",
    3980: "the batch was aborted",
    4117: "the table's schema is being altered",
    4184: "the table's schema is being altered",
    10930: "the service is too busy",
    11001: "the host's name is not known now",
    14355: "the service is busy",
    17197: "the login took too long on a loaded server",
    17889: "the server cannot take another login now",
    40106: "the session's schema scope moved",
    40189: "the resource quota is used up for now",
    40642: "the server is too busy",
    40648: "too many requests",
    40671: "the server cannot do this now",
    40675: "the service is too busy",
    40890: "the elastic pool is busy",
    40903: "the server is busy",
    41301: "memory-optimised table: a transaction that this one depended on failed",
    41302: "memory-optimised table: row changed meanwhile",
    41305: "memory-optimised table: read not repeatable",
    41325: "memory-optimised table: not serializable",
    41339: "memory-optimised table: altered meanwhile",
    41839: "memory-optimised table: too many dependent transactions",
    45153: "the management service is not available",
    45157: "the server is busy",
    45161: "the managed instance is busy",
    45182: "the database is busy",
    49510: "the managed instance is busy",
    49802: "the database is not available now",
    49977: "the elastic pool is busy",
    # JDBC
    40020: "service error: failing over",
    40166: "service error: failing over",
    42108: "the SQL pool is paused",
    42109: "the SQL pool is warming up",
    # AZ
    926: "the database is marked suspect: at the end of a failover, or for an administrator to look at",
    10936: "a limit of the elastic pool is reached",
}
"""Numbers worth a retry, and what they mean."""

_LOGIN = "check user and password in SOURCE_URL (or MSSQL_USER, MSSQL_PASSWORD)"
_GRANT = "the login may not read this: GRANT SELECT ON <table> TO <user>"

_NO_TABLE = "there is no such table or view, or the login may not see it: check the feed's table"
_REPORT = "the statement is wrong: please report it, with what `feeds explain` prints"
_TYPES = "the types do not go together: write each value of the feed's where and start in the form of its column"
_VIEW = "the view is broken: something behind it was changed or dropped; sp_refreshview, or mend the view"
_COLLATIONS = (
    "two collations meet: the view compares columns of different collations; add COLLATE to it"
)
_LINKED = "the view reads another server, which refuses: mend the linked server, or read the table where it is"

PERMANENT: Mapping[int, str] = {
    102: _REPORT,
    156: _REPORT,
    195: "the server lacks a function that this needs: SQL Server 2012 or later, and see docs/sqlserver.md",
    209: _VIEW,
    207: "the table has no such column: check the feed's columns, key and cursor",
    208: _NO_TABLE,
    229: _GRANT,
    230: _GRANT,
    243: "the table has a column of a type that is not there: leave it out by the feed's `columns`",
    262: _GRANT,
    297: "the login lacks a right: see docs/sqlserver.md for those that Rowrelay needs",
    300: "the login lacks a right: see docs/sqlserver.md for those that Rowrelay needs",
    911: "there is no such database: check the name in SOURCE_URL (or MSSQL_DATABASE)",
    916: "the login may not use this database: CREATE USER <user> FOR LOGIN <login>",
    978: "a replica that takes readers only: ?ApplicationIntent=ReadOnly in SOURCE_URL, or read from the primary",
    1088: _NO_TABLE,
    4104: _REPORT,
    4121: _VIEW,
    4413: _VIEW,
    4502: _VIEW,
    4701: _NO_TABLE,
    7202: _LINKED,
    7314: _LINKED,
    7411: _LINKED,
    13908: "a graph table's internal columns cannot be read: name the others in the feed's `columns`",
    **dict.fromkeys((206, 249, 257, 260, 305, 306, 402, 403, 447, 529, 8116, 8117), _TYPES),
    **dict.fromkeys((446, 449, 451, 456, 457, 468), _COLLATIONS),
    15247: _GRANT,
    18452: "the login's domain is not trusted (Windows), or SQL Server logins are switched off",
    18456: _LOGIN,
    18470: "the login is disabled: ALTER LOGIN <login> ENABLE",
    18486: "the login is locked out: ALTER LOGIN <login> WITH PASSWORD = '…' UNLOCK",
    18487: "the password has expired: change it, then " + _LOGIN,
    18488: "the password must be changed: change it, then " + _LOGIN,
}
"""Numbers that the same call would meet again, and what to do."""

_CONVERTS = "a value does not convert: a row's, or one of the feed's where or start"
_OVERFLOWS = "a value is too large for its type: a row's, or one of the feed's where or start"
_COMPUTES = "a computed column, or the view, cannot be worked out for a row"

BY_VALUE: Mapping[int, str] = {
    # text and numbers from one type to another
    210: _CONVERTS,
    220: _OVERFLOWS,
    232: _OVERFLOWS,
    234: _OVERFLOWS,
    235: _CONVERTS,
    236: _OVERFLOWS,
    237: _OVERFLOWS,
    238: _OVERFLOWS,
    241: _CONVERTS,
    242: _CONVERTS,
    244: _OVERFLOWS,
    245: _CONVERTS,
    248: _OVERFLOWS,
    292: _OVERFLOWS,
    293: _CONVERTS,
    294: _CONVERTS,
    295: _CONVERTS,
    296: _CONVERTS,
    298: _CONVERTS,
    1007: _OVERFLOWS,
    8114: _CONVERTS,
    8115: _OVERFLOWS,
    8152: _OVERFLOWS,
    8169: _CONVERTS,
    9801: _OVERFLOWS,
    9803: _CONVERTS,
    9807: _CONVERTS,
    # dates
    517: _OVERFLOWS,
    535: _OVERFLOWS,
    289: _COMPUTES,
    9812: _CONVERTS,
    9813: _CONVERTS,
    # what a computed column or a view does with a row
    512: _COMPUTES,
    536: _COMPUTES,
    537: _COMPUTES,
    2628: _OVERFLOWS,
    3623: _COMPUTES,
    6522: _COMPUTES,
    8134: _COMPUTES,
    13608: _COMPUTES,
    13609: _COMPUTES,
    13623: _COMPUTES,
    13624: _COMPUTES,
    **dict.fromkeys(range(9400, 9460), _COMPUTES),  # XML that cannot be parsed
}
"""Numbers that a single row's value can be the whole cause of, and what is wrong. Permanent, too:
the row stays.
"""

_VALUE_STATES = frozenset({"22001", "22003", "22007", "22008", "22012", "22018"})
"""The same by SQLSTATE, for what the driver finds itself (ODBC: appendix A; SQL standard: class 22,
data exception).
"""

_STATES: Mapping[str, tuple[bool, str]] = {
    "28000": (True, _LOGIN),
    "42S02": (True, PERMANENT[208]),
    "42S22": (True, PERMANENT[207]),
    "FA001": (
        True,
        "Authentication= goes without Trusted_Connection and user: take one of them out of SOURCE_URL",
    ),
    "FA002": (True, "this Authentication= needs a user and a password: " + _LOGIN),
    "FA003": (True, "this Authentication= takes no user and password: take them out of SOURCE_URL"),
    "FA004": (
        False,
        "Microsoft Entra gave no token: check user or managed identity, and the way to it",
    ),
    "IM002": (True, "the ODBC driver named is not installed: check ?driver= in SOURCE_URL"),
    "IM003": (True, "the ODBC driver cannot be loaded: check ?driver= in SOURCE_URL"),
    "HY106": (
        True,
        "the driver cannot read a column's type: leave the column out by the feed's `columns`",
    ),
    "HYT00": (
        False,
        "no answer in time: check host and port, firewall and DNS; once connected, a slow statement",
    ),
    "HYT01": (False, "no answer in time: check host and port, firewall and DNS"),
    "08001": (False, "cannot connect: check host and port, firewall and DNS"),
    **dict.fromkeys(
        ("01002", "08003", "08007", "08S01", "08S02"), (False, "the connection was lost")
    ),
}
"""By SQLSTATE, where the number says nothing: permanent or not, and what to do."""

_TEXTS: tuple[tuple[str, str], ...] = (
    (
        "certificate verify failed",
        "the server's certificate is not trusted: install its CA, or TrustServerCertificate=yes",
    ),
    ("Can't open lib", "the ODBC driver cannot be loaded: check ?driver= in SOURCE_URL"),
)
"""What has neither a number nor a state of its own. All permanent."""

_NUMBER = re.compile(r"\((-?\d+)\)\s*(?:\(SQL\w+\))?\s*(?=;\s*\[|$)")
"""The native number ends each of the messages that pyodbc joins by `;`: `[state] text (number)
(function)`.
"""


def numbers(error: BaseException) -> Iterator[int]:
    """Every native number in a pyodbc error but 0, in order."""
    for found in _NUMBER.findall(_text(error)):
        if int(found) != 0:
            yield int(found)


def refuses(error: BaseException) -> bool | None:
    """Whether the same call would fail again: `True` permanent, `False` worth a retry, `None` where
    its class decides.

    A number that is worth a retry wins over the others: a login during a failover gives 4060 and
    18456 together.
    """
    found = set(numbers(error))
    if found & RETRYABLE.keys():
        return False
    if found & PERMANENT.keys() or _by_text(error) or by_value(error):
        return True
    state = _STATES.get(_state(error))
    return state[0] if state else (False if found else None)


def by_value(error: BaseException) -> bool:
    """Whether a single row's value may be the whole cause of an error that no retry mends."""
    found = set(numbers(error))
    if found & (RETRYABLE.keys() | PERMANENT.keys()):
        return False
    return bool(found & BY_VALUE.keys()) or _state(error) in _VALUE_STATES


def advice(error: BaseException) -> str | None:
    """What to do about a pyodbc error, in plain words; `None` where only its own words are known."""
    found = list(numbers(error))
    retryable = [RETRYABLE[number] for number in found if number in RETRYABLE]
    permanent = [
        words for number in found if (words := PERMANENT.get(number) or BY_VALUE.get(number))
    ]
    state = _STATES.get(_state(error))
    candidates = [*retryable, *permanent, _by_text(error), state[1] if state else None]
    return next((words for words in candidates if words), None)


def _by_text(error: BaseException) -> str | None:
    text = _text(error)
    return next((words for part, words in _TEXTS if part in text), None)


def _state(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""


def _text(error: BaseException) -> str:
    return one_line(error.args[1]) if len(error.args) > 1 else ""

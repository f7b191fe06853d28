"""The ledger's URL: what it may ask of MongoDB, and what it may not, because a promise would not
hold.

Of the driver's options those that say where reads come from, and when a write counts, are ours; the
others pass. A URL that says nothing gets what is right.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pymongo import common, uri_parser, uri_parser_shared
from pymongo.errors import PyMongoError

_SRV, _PLAIN = "mongodb+srv://", "mongodb://"
_NAMES = {name.lower(): name for name in uri_parser_shared.URI_OPTIONS}
"""As the documentation writes them."""
_READ_CONCERNS = ("local", "majority", "linearizable")
_STALE = (
    "a member that lags behind would show rows as not sent that are, and they would be sent twice"
)
_ROLLED_BACK = (
    "what is not on a majority's disks is lost in a failover, after the cursor has passed it"
)
_REMOVE = "remove it from MONGO_URL"
_MALFORMED = (
    "a value not shown here",
    "not a URL that the driver can read: mongodb://user:password@host:port,…/database?option=value; in the user and "
    "the password write @ : / ? # [ ] % as %40 %3A %2F %3F %23 %5B %5D %25",
)


def url_problems(url: str) -> list[tuple[str, str]]:
    """What is wrong with a URL, each as (what was found, why not and what to do); never a user or a
    password of it.
    """
    try:
        options = _options(url)
        problems = [*_reads(options), *_writes(options)]
    except _UnreadableOption as error:
        problems = [(error.found, error.allowed)]
    except (PyMongoError, ValueError):  # its text may quote the password
        problems = [_MALFORMED]
    if (
        problems and "@" in url.partition("?")[2]
    ):  # a password with a "?" in it is taken for options
        return [_MALFORMED]
    return problems


class _UnreadableOption(Exception):
    """An option that the driver does not know, or whose value it refuses."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(found)
        self.found = found
        self.allowed = allowed


def _options(url: str) -> Mapping[str, Any]:
    """The options, by their names in lower case, as the driver reads them. Asks no name server."""
    if url.startswith(_SRV):
        url = _PLAIN + url.removeprefix(_SRV)
    bare, _, query = url.partition("?")
    uri_parser.parse_uri(bare)
    if not query:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # an option given twice: the last one counts, and is judged here
        given = uri_parser.split_options(query, validate=False, normalize=False)
    options = {}
    for name, value in given.items():
        option = (
            "journal" if name.lower() == "j" else name.lower()
        )  # the server's name, unknown to the driver
        options[option] = _validated(option, value)
    return options


def _validated(name: str, value: Any) -> Any:
    if name not in common.URI_OPTIONS_VALIDATOR_MAP:
        raise _UnreadableOption(
            f"the option {name[:40]}", f"the driver has none of that name: {_REMOVE}, or mend it"
        )
    try:
        return uri_parser.validate_options({name: value}, warn=False)[name]
    except (PyMongoError, ValueError, TypeError, KeyError, OSError) as error:
        why = (
            f"its file cannot be read ({error.strerror})"
            if isinstance(error, OSError)
            else "no value that it can have"
        )
        raise _UnreadableOption(
            f"the option {_NAMES.get(name, name)}", f"{why}: mend it in MONGO_URL"
        ) from None


def _reads(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Reads that may be older than what was written."""
    preference = options.get("readpreference", "primary")
    if preference != "primary":
        yield f"readPreference={preference}", f"{_STALE}; {_REMOVE}, or say readPreference=primary"
    if options.get("readpreferencetags"):
        yield "readPreferenceTags", f"reads come from the primary alone: {_STALE}; {_REMOVE}"
    if options.get("maxstalenessseconds", -1) != -1:
        yield "maxStalenessSeconds", f"reads come from the primary alone: {_STALE}; {_REMOVE}"
    concern = options.get("readconcernlevel")
    if concern is not None and concern not in _READ_CONCERNS:
        allowed = ", ".join(_READ_CONCERNS)
        yield f"readConcernLevel={concern[:40]}", f"{_STALE}; {_REMOVE}, or use one of {allowed}"


def _writes(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Writes that count before they are safe."""
    acknowledged = options.get("w", "majority")
    if acknowledged != "majority":
        yield f"w={str(acknowledged)[:40]}", f"{_ROLLED_BACK}; {_REMOVE}, or say w=majority"
    if options.get("journal") is False:
        yield "journal=false", f"{_ROLLED_BACK}; {_REMOVE}"
    if options.get("fsync"):
        yield "fsync=true", f"MongoDB knows it no more, and it shuts the journal out; {_REMOVE}"

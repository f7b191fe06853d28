"""Why a server was not reached, in the system's words: libraries add Python's to them.

asyncio says `[Errno 111] Connect call failed ('127.0.0.1', 1)`, of several addresses `Multiple
exceptions: …`; redis-py says `Error 111 connecting to 127.0.0.1:1. Connect call failed
('127.0.0.1', 1).`
"""

from __future__ import annotations

import os
import re

from app.core.shown import one_line

_CALL = re.compile(r"(?:\[Errno (?P<errno>\d+)\] )?Connect call failed \([^()]*\)")
_REDIS = re.compile(r"Error (?P<errno>-?\d+) connecting to (?P<place>\S+?)\. (?P<said>.*?)\.?$")
_SEVERAL = re.compile(r"Multiple exceptions: (?P<said>.*)$")
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


def why_unreached(error: BaseException) -> str:
    """What the error says, on one line, of a connection that did not come about. Other texts stay
    as they are.
    """
    number = error.errno if isinstance(error, OSError) else None
    text = one_line(error)
    if redis := _REDIS.search(text):
        number = int(redis["errno"])
        text = f"{text[: redis.start()]}{redis['place']}: {redis['said']}"
    text = _CALL.sub(lambda call: _system_says(call["errno"] or number), text)
    text = _SEVERAL.sub(lambda several: ", ".join(dict.fromkeys(several["said"].split(", "))), text)
    return _ERRNO.sub("", text) or type(error).__name__


def _system_says(number: int | str | None) -> str:
    return os.strerror(int(number)) if number else "no connection"

"""Partners of every temper, in one process: what a path asks for is what its requests meet.

/after/<ms>     answers 200 after so many milliseconds
/answers/<status>   answers with that status at once; 429 with `Retry-After: 5`
/cut            closes the connection without an answer
/never          takes the request, and says nothing
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path


async def _meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(_length(head))
            what, _, value = head.split(b" ", 2)[1].decode().strip("/").partition("/")
            if what == "cut":
                return
            if what == "never":
                await asyncio.sleep(3600)
            status = int(value) if what == "answers" else 200
            if what == "after":
                await asyncio.sleep(float(value) / 1000)
            wait = b"retry-after: 5\r\n" if status == 429 else b""
            writer.write(b"HTTP/1.1 %d x\r\n%scontent-length: 2\r\n\r\n{}" % (status, wait))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client is gone
    finally:
        writer.close()


def _length(head: bytes) -> int:
    return next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )


async def _serve(announce: Path) -> None:
    server = await asyncio.start_server(_meet, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    written = announce.with_suffix(".new")
    written.write_text(f"http://127.0.0.1:{port}", encoding="utf-8")
    written.rename(announce)
    await server.serve_forever()


def main() -> None:
    """Serve until killed; the URL is written to the file named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--announce", type=Path, required=True)
    asyncio.run(_serve(parser.parse_args().announce))


if __name__ == "__main__":
    main()

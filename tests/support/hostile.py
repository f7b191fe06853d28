"""What a source, a partner or an attacker writes into a field: tests fill fields with it, and look at what
pages, exports and redirects make of it."""

from __future__ import annotations

MARK = "rr5f3c"
"""In every script of `SCRIPTS`, so that a page can be searched for it."""

SCRIPTS = (
    f"<script>document.title='{MARK}'</script>",
    f"<img src=x onerror=\"document.title='{MARK}'\">",
    f'"><svg onload="document.title=\'{MARK}\'">',
    f"'-document.write('{MARK}')-'",
    f"</textarea></title></style></script><script>document.title='{MARK}'</script>",
    f"javascript:document.title='{MARK}'",
    f"{{{{ '{MARK}'.__class__ }}}}",
    f"{{% print('{MARK}') %}}",
    f"<a href=\"javascript:document.title='{MARK}'\">{MARK}</a>",
    f"--><!--<script>document.title='{MARK}'</script>",
)
"""Each ends an attribute, an element or a string of a script, and goes on as a program."""

FORMULAS = (
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("https://evil.example","pay")',
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "＝1+1",
)
"""What a spreadsheet computes when it opens a CSV file (OWASP, CSV Injection)."""

ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "/\n/evil.example",
    "\x00//evil.example",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "http:evil.example",
    "https:/evil.example",
    "//[",
    "//evil.example:80@127.0.0.1/",
    "evil.example",
    "/%0d%0aSet-Cookie:a=b\r\nSet-Cookie:a=b",
    " //evil.example",
    "/\u2028/evil.example",
)
"""Paths that would lead a browser away from the console, or split a header."""

ODD = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "../../etc/passwd",
    "%",
    "%00",
    "'; DROP TABLE users; --",
    "$ne",
    '{"$gt": ""}',
    "*",
    ".*",
    "\u202eevil",
    "Ἐν ἀρχῇ",
    "Đặng Thị Ánh",
    "😀" * 50,
    "\ud7ff\ue000",
    "x" * 5000,
)
"""Text that ends strings, means something to a database or path, or is merely unusual."""

"""The certificates of the zoo (see `zoo`), made anew for each run."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.zoo import Certificates, Credentials

PASSWORD = "open sesame"  # noqa: S105  of a key that is made for a test


def issue(place: Path) -> Certificates:
    """Every certificate that the manners name, with the files in `place`."""
    ours, stranger = trustme.CA(), trustme.CA()
    ca = place / "ca.pem"
    ours.cert_pem.write_to_path(str(ca))
    past = datetime.now(UTC) - timedelta(days=1)
    contexts = {
        "good": _context(ours.issue_cert("localhost")),
        "address": _context(ours.issue_cert("127.0.0.1")),
        "elsewhere": _context(ours.issue_cert("elsewhere.example")),
        "expired": _context(
            ours.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)
        ),
        "stranger": _context(stranger.issue_cert("localhost")),
        "old": _context(ours.issue_cert("localhost"), highest=ssl.TLSVersion.TLSv1_1),
        "mutual": _context(ours.issue_cert("localhost"), clients=ours),
        "mutual 1.2": _context(
            ours.issue_cert("localhost"), clients=ours, highest=ssl.TLSVersion.TLSv1_2
        ),
    }
    credentials = {
        "ours": Credentials(ca),
        "certified": _credentials(ca, ours, place / "certified"),
        "strange": _credentials(ca, stranger, place / "strange"),
    }
    return Certificates(contexts, credentials)


def _context(
    certificate: trustme.LeafCert,
    *,
    clients: trustme.CA | None = None,
    highest: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    if highest is not None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # old versions are what is wanted here
            context.minimum_version, context.maximum_version = (
                ssl.TLSVersion.MINIMUM_SUPPORTED,
                highest,
            )
    return context


def _credentials(ca: Path, issuer: trustme.CA, start: Path) -> Credentials:
    """A client's certificate, with an encrypted key."""
    leaf = issuer.issue_cert("rowrelay@client.example")
    certificate, key = start.with_suffix(".pem"), start.with_suffix(".key")
    certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    unlocked = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(PASSWORD.encode())
    key.write_bytes(unlocked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return Credentials(ca, certificate, key, PASSWORD)

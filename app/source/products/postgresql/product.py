"""PostgreSQL as a source: by the `identity` strategy only."""

from __future__ import annotations

from app.source.products.product import Product

POSTGRESQL = Product(
    name="postgresql",
    driver="asyncpg",
    connect_args=lambda timeouts: {"timeout": timeouts.connect},
)

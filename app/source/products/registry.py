"""The database products that a source may be: a line a product."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.engine import URL

from app.source.products.mssql.product import MSSQL
from app.source.products.postgresql.product import POSTGRESQL
from app.source.products.product import Product
from app.source.products.sqlite.product import SQLITE

PRODUCTS: Mapping[str, Product] = {product.name: product for product in (MSSQL, POSTGRESQL, SQLITE)}
"""By SQLAlchemy's name."""


def product_of(url: URL) -> Product:
    """What is known of the product that a URL names; of one that is not listed, no more than its
    driver.
    """
    name = url.get_backend_name()
    return PRODUCTS.get(name) or Product(name=name, driver=url.get_driver_name())

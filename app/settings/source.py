"""Settings of the source: one URL, or its parts."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from app.core.source_url import mssql_url


class SourceSettings(BaseModel):
    """Where the source is."""

    mssql_host: str = ""
    """An SQL Server, in parts, instead of `source_url`: its host name or address."""
    mssql_port: int = Field(default=1433, ge=1, le=65535)
    mssql_database: str = ""
    mssql_user: str = ""
    mssql_password: SecretStr = SecretStr("")
    source_url: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """The source database, plain (`mssql://…`) or with its driver (`mssql+aioodbc://…`); made of
    the parts if empty.
    """

    @field_validator("mssql_host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if re.search(r"[\s/@?#]", host):
            raise ValueError(
                "a host's name or address alone: port, user and database have settings of their own"
            )
        return host

    @field_validator("source_url")
    @classmethod
    def _of_parts(cls, url: SecretStr, found: ValidationInfo) -> SecretStr:
        """The URL, made of `mssql_*` where that is how the source is given. Raises `ValueError` for
        both.
        """
        parts = found.data
        wrong_already = not {"mssql_host", "mssql_port"} <= parts.keys()
        if wrong_already or not any(
            parts[name] for name in ("mssql_host", "mssql_database", "mssql_user")
        ):
            return url
        if url.get_secret_value():
            raise ValueError(
                "set either SOURCE_URL or MSSQL_HOST and the others of its kind, not both"
            )
        if missing := [
            name.upper() for name in ("mssql_host", "mssql_database") if not parts[name]
        ]:
            raise ValueError(
                f"set {' and '.join(missing)} too, or SOURCE_URL in place of all MSSQL_ settings"
            )
        return SecretStr(mssql_url(parts))

"""From a configuration to an open pyiceberg catalog: addresses and folders checked, failures explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from webapp.engine.connectors.iceberg.spec import IcebergCatalog
from webapp.engine.connectors.parquet.bucket import checked_endpoint
from webapp.engine.connectors.parquet.faults import destination_fault, fault
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

_CATALOG_DOWN = (
    "Connection refused",
    "Max retries",
    "could not connect",
    "Could not connect",
    "Connection aborted",
    "could not translate",
    "timeout expired",
)
_CATALOG_REFUSES = (
    "password authentication failed",
    "UnauthorizedError",
    "ForbiddenError",
    "no password",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "AccessDeniedException",
    "OAuthError",
)


@contextmanager
def opened(config: IcebergCatalog, context: Context) -> Iterator[Catalog]:
    """The catalog, open for the block. Raises EngineError."""
    properties = catalog_properties(config, context)
    with told(config):
        from pyiceberg.catalog import load_catalog

        catalog = load_catalog(config.catalog_name, **properties)
        # What a REST catalog sends goes before our properties, and must not choose how files are opened.
        catalog.properties = {**catalog.properties, **own_files(context)}
    try:
        yield catalog
    finally:
        catalog.close()


def catalog_properties(config: IcebergCatalog, context: Context) -> dict[str, Any]:
    """What pyiceberg needs for this catalog. Raises EngineError for addresses and folders that may not be used."""
    kinds = {"jdbc": _sql, "rest": _rest, "glue": _glue, "hive": _hive}
    found = kinds[config.catalog_type](config, context) | _store(config, context)
    if config.iceberg_s3_path.strip():
        found["warehouse"] = warehouse(config, context)
    return found | own_files(context)


def own_files(context: Context) -> dict[str, str]:
    """The properties that have tables opened within this instance's bounds."""
    from webapp.engine.connectors.iceberg.files import BOUNDS, BoundedFileIO, bounds_of

    return {"py-io-impl": f"{BoundedFileIO.__module__}.{BoundedFileIO.__name__}", BOUNDS: bounds_of(context)}


def warehouse(config: IcebergCatalog, context: Context) -> str:
    """The warehouse as a URI; a folder must lie where this instance may write."""
    text = config.iceberg_s3_path.strip()
    if config.catalog_type == "rest" and "://" not in text and "/" not in text:
        return text  # a REST catalog may name its warehouses
    if "://" in text and not text.startswith("file://"):
        if text.split("://")[0] not in ("s3", "s3a", "s3n"):
            raise destination_fault("the warehouse is neither s3:// nor a folder", "Write s3://bucket/path.")
        return text
    return f"file://{allowed_path(text.removeprefix('file://'), context, origin=Origin.DESTINATION)}"


def local_folder(uri: str, context: Context) -> Path | None:
    """The folder that a file URI names, None for another store. Raises EngineError when it may not be used."""
    if uri.startswith(("file:", "/")):
        return allowed_path("/" + uri.removeprefix("file:").lstrip("/"), context, origin=Origin.DESTINATION)
    return None


@contextmanager
def told(config: IcebergCatalog) -> Iterator[None]:
    """Turn what catalogs, stores and DuckDB raise in the block into EngineErrors without secrets."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # pyiceberg passes on what its catalogs' drivers raise: there is no common class
        raise _explained(error, config) from None


def _explained(error: Exception, config: IcebergCatalog) -> EngineError:
    text = f"{type(error).__name__}: {error}"
    for secret in (config.jdbc_password, config.token, config.credential, config.aws_secret_key):
        if secret.get_secret_value():
            text = text.replace(secret.get_secret_value(), "***")
    shown = f"the {config.catalog_type} catalog"
    first = text.strip().partition("\n")[0][:300]
    if any(word in text for word in _CATALOG_REFUSES):
        return destination_fault(f"{shown} refuses the log-in ({first})", "Check user, password, token and keys.")
    if any(word in text for word in _CATALOG_DOWN):
        return destination_fault(f"{shown} does not answer ({first})", "Check the address.", Kind.TRANSIENT)
    if "CommitFailed" in text or "ValidationException" in text:
        return destination_fault(f"the table was changed meanwhile ({first})", "Run the load again.", Kind.TRANSIENT)
    if "NoSuchNamespaceError" in text:
        return destination_fault(f"{shown} has no such namespace ({first})", "Correct iceberg_db, or leave it empty.")
    return fault(RuntimeError(text), shown)


def _sql(config: IcebergCatalog, context: Context) -> dict[str, str]:
    url = config.jdbc_url.strip().removeprefix("jdbc:")
    if url.startswith("sqlite:"):
        file = allowed_path(url.removeprefix("sqlite:").removeprefix("//"), context, origin=Origin.DESTINATION)
        return {"type": "sql", "uri": f"sqlite:///{file}"}
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.path.strip("/"):
        raise destination_fault(
            "the JDBC URL leads to no catalog that can be used",
            "Write jdbc:postgresql://host:5432/database, or jdbc:sqlite:file.",
        )
    _, address = checked_endpoint(f"http://{parts.hostname}:{port}", context)
    login = quote(config.jdbc_username, safe="")
    if password := config.jdbc_password.get_secret_value():
        login += f":{quote(password, safe='')}"
    query = "&".join(part for part in parts.query.split("&") if part.startswith("sslmode="))
    extra = f"?connect_timeout=8{'&' if query else ''}{query}"
    return {"type": "sql", "uri": f"postgresql+psycopg2://{login}{'@' if login else ''}{address}{parts.path}{extra}"}


def _rest(config: IcebergCatalog, context: Context) -> dict[str, str]:
    checked_endpoint(config.rest_catalog_url, context)
    given = {
        "token": config.token.get_secret_value(),
        "credential": config.credential.get_secret_value(),
        "scope": config.scope,
    }
    if given["credential"]:
        own = f"{config.rest_catalog_url.rstrip('/')}/v1/oauth/tokens"
        given["oauth2-server-uri"] = config.oauth2_uri.strip() or own
        checked_endpoint(given["oauth2-server-uri"], context)
    return {"type": "rest", "uri": config.rest_catalog_url} | {name: text for name, text in given.items() if text}


def _glue(config: IcebergCatalog, context: Context) -> dict[str, Any]:
    _check_library("boto3", "AWS Glue")
    given: dict[str, Any] = {
        "glue.region": config.aws_region,
        "glue.access-key-id": config.aws_access_key,
        "glue.secret-access-key": config.aws_secret_key.get_secret_value(),
        "glue.max-retries": 2,
    }
    if config.glue_endpoint:
        scheme, address = checked_endpoint(config.glue_endpoint, context)
        given["glue.endpoint"] = f"{scheme}://{address}"
    return {"type": "glue"} | {name: text for name, text in given.items() if text}


def _hive(config: IcebergCatalog, context: Context) -> dict[str, str]:
    _check_library("thrift", "a Hive metastore")
    try:
        parts = urlsplit(config.hive_uri)
        port = parts.port or 9083
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "thrift" or not parts.hostname:
        raise destination_fault("the Hive metastore has no usable address", "Write hive_uri as thrift://host:9083.")
    _, address = checked_endpoint(f"http://{parts.hostname}:{port}", context)
    return {"type": "hive", "uri": f"thrift://{address}", "hive.hive2-compatible": "true"}


def _check_library(name: str, what: str) -> None:
    if find_spec(name) is None:
        raise destination_fault(
            f"the library for {what} is not installed on this machine",
            f"Install it beside Hohmann and start the workers again: pip install {name}; its version stands in"
            " requirements-extras.txt.",
            Kind.SYSTEM,
        )


def _store(config: IcebergCatalog, context: Context) -> dict[str, str]:
    given: dict[str, Any] = {
        "s3.region": config.aws_region or ("us-east-1" if config.s3_endpoint else ""),
        "s3.access-key-id": config.aws_access_key,
        "s3.secret-access-key": config.aws_secret_key.get_secret_value(),
    }
    if config.s3_endpoint:
        scheme, address = checked_endpoint(config.s3_endpoint, context)
        given["s3.endpoint"] = f"{scheme}://{address}"
    return {name: text for name, text in given.items() if text}

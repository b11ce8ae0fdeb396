"""A connection's configuration: checked by its connector, its secrets shown to nobody and sent nowhere new."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from webapp.connections.models import ConnectionRole
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import ConnectorSpec
from webapp.errors import Invalid, NotFound
from webapp.redaction import is_secret
from webapp.secrets import MASK, unmask

MAXIMUM_CONFIG = 200_000
_ADDRESS_KEYS = frozenset(
    {"host", "hosts", "port", "url", "uri", "endpoint", "s3_endpoint", "jdbc_url", "connection_string"}
)


def spec_class(role: ConnectionRole, type_: str) -> type[ConnectorSpec]:
    """The configuration model of a connector. Raises NotFound for one that this server does not run."""
    found = installed_spec(role, type_)
    if found is None:
        raise NotFound(f"The {role} connector {type_!r} is not installed on this server.", code="NO_CONNECTOR")
    return found


def installed_spec(role: ConnectionRole, type_: str) -> type[ConnectorSpec] | None:
    """The model of a connector, None for one that is known but not installed. Raises Invalid for an unknown one."""
    try:
        return registry.spec_class(role, type_)
    except registry.UnknownConnector as error:
        raise Invalid(f"type: {error}", field="type", value=type_[:64]) from error
    except ModuleNotFoundError:
        return None


def check_config(role: ConnectionRole, type_: str, config: Mapping[str, Any]) -> None:
    """Raise Invalid that lists each wrong field, as `config.<field>`."""
    if len(orjson.dumps(config)) > MAXIMUM_CONFIG:
        raise Invalid(f"A configuration has at most {MAXIMUM_CONFIG} bytes.", field="config")
    spec = installed_spec(role, type_)
    if spec is None:
        return
    try:
        spec.model_validate(config)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors(include_url=False, include_context=False)]
        where = ".".join(str(part) for part in problems[0]["loc"][1:])
        raise Invalid(f"{where}: {problems[0]['msg']}", field=where, errors=problems) from error


def _problem(item: Any) -> dict[str, Any]:
    # What was sent is not repeated: it may be a secret in the wrong place.
    return {"type": item["type"], "loc": ["body", "config", *item["loc"]], "msg": item["msg"], "input": None}


def endpoint(role: ConnectionRole, type_: str, config: Mapping[str, Any]) -> str:
    """Where a configuration leads; secrets that were stored for one endpoint are not sent to another."""
    spec = installed_spec(role, type_)
    if spec is not None:
        try:
            if said := spec.model_validate(config).endpoint():
                return said
        except ValidationError:
            pass  # compared by its addresses, and refused for its mistakes elsewhere
    return orjson.dumps(sorted(_addresses(config))).decode()


def _addresses(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if str(key).lower() in _ADDRESS_KEYS:
                yield f"{path}.{key}", str(value)
            else:
                yield from _addresses(value, f"{path}.{key}")
    elif isinstance(config, list):
        for at, item in enumerate(config):
            yield from _addresses(item, f"{path}.{at}")


def masked_fields(config: Any, path: str = "config") -> list[str]:
    """Where masks stand in a configuration that came in, as `config.<field>`."""
    if isinstance(config, Mapping):
        found = [f"{path}.{key}" for key, value in config.items() if is_secret(key) and value == MASK]
        return found + [item for key, value in config.items() for item in masked_fields(value, f"{path}.{key}")]
    if isinstance(config, list):
        return [item for at, value in enumerate(config) for item in masked_fields(value, f"{path}.{at}")]
    return []


def restore_secrets(
    role: ConnectionRole, type_: str, new: Mapping[str, Any], old: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The configuration with the stored secrets where their masks came back.

    Raises Invalid when there is nothing behind a mask, or when the configuration leads somewhere else now.
    """
    masks = masked_fields(new)
    if not masks:
        return dict(new)
    if old is None:
        raise Invalid("Type the secret: nothing is stored behind this mask.", field=masks[0])
    restored: dict[str, Any] = unmask(new, old)
    if endpoint(role, type_, restored) != endpoint(role, type_, old):
        message = "Type the secret again: the address has changed, and the stored one is not sent to another place."
        raise Invalid(message, field=masks[0])
    missing = [name for name in masks if not _at(restored, name)]
    if missing:
        raise Invalid("Type the secret: nothing is stored behind this mask.", field=missing[0])
    return restored


def _at(config: Any, path: str) -> Any:
    for part in path.split(".")[1:]:
        config = config.get(part) if isinstance(config, Mapping) else config[int(part)]
    return config

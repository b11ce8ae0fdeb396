"""A stream of an API as the extractor that reads it, with what its log-in needs."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr, ValidationError

from webapp.engine.connectors.rest.spec import (
    ApiKeyAuth,
    BasicAuth,
    BearerAuth,
    ClientCredentialsAuth,
    RestSourceSpec,
    RestStream,
)
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Origin
from webapp.engine.specs import ApiExtractor


def extractor_for(config: RestSourceSpec, stream: RestStream, context: Context, *, since: Any = None) -> ApiExtractor:
    """What the API extractor is told, log-in included. Raises EngineError when a token is not given."""
    headers, params = dict(config.headers), dict(stream.params)
    token: SecretStr | None = None
    match config.auth:
        case BearerAuth(bearer_token=bearer_token):
            token = bearer_token
        case BasicAuth(username=username, password=password):
            pair = base64.b64encode(f"{username}:{password.get_secret_value()}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        case ApiKeyAuth(name=name, api_key=api_key, place="header"):
            headers[name] = api_key.get_secret_value()
        case ApiKeyAuth(name=name, api_key=api_key):
            params[name] = api_key.get_secret_value()
        case ClientCredentialsAuth() as auth:
            token = SecretStr(_granted(auth, config, context))
    if stream.incremental_param and since is not None:
        params[stream.incremental_param] = str(since)
    url = config.base_url.rstrip("/") + ("/" + stream.path.lstrip("/") if stream.path else "")
    try:
        return ApiExtractor(
            type="api", url=url, headers=headers, params=params, bearer_token=token, records=stream.records,
            pagination=stream.pagination or config.pagination, timeout=config.timeout, retries=config.retries,
        )  # fmt: skip
    except ValidationError as error:
        fields = ", ".join(sorted({str(problem["loc"][-1]) for problem in error.errors()}))
        # Not its text, and not as the cause: both show values, and these may be secrets.
        raise EngineError(
            f"the request for {stream.name} cannot be made: {fields}", origin=Origin.USER,
            fix="Headers and keys are printable texts on one line; the path is plain.",
        ) from None  # fmt: skip


def _granted(auth: ClientCredentialsAuth, config: RestSourceSpec, context: Context) -> str:
    """Ask for a token. Raises EngineError that says what the authority answered instead."""
    from webapp.engine.http_client import PageFetcher, Request, origin_of

    pair = base64.b64encode(f"{auth.client_id}:{auth.client_secret.get_secret_value()}".encode()).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {pair}"}
    form = {"grant_type": "client_credentials", **({"scope": auth.scope} if auth.scope else {})}
    request = Request("POST", auth.token_url, headers, urlencode(form).encode(), origin_of(auth.token_url))
    fetcher = PageFetcher(allow_private=context.allow_private_addresses, timeout=config.timeout, retries=config.retries)
    try:
        answer = json.loads(fetcher.fetch(request).body)
        return str(answer["access_token"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("the token address answered without an access_token", origin=Origin.SOURCE,
                          fix="Check the token address.") from error  # fmt: skip
    finally:
        fetcher.close()

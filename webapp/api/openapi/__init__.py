"""What the JSON API is, told to machines as OpenAPI 3.1 and to people as a page."""

from webapp.api.openapi.door import door

__all__ = ["door"]

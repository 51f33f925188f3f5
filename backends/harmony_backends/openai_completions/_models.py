"""What a server reports about itself in its list of models."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import httpx

from ._retry import Retries, StatusError

_OWNERS: Final = {"llamacpp": "llama_cpp", "sglang": "sglang"}  # `owned_by` of their models


class ServerInfo(NamedTuple):
    """What a server reports about itself.

    Attributes:
        dialect: The name of its dialect.
        context: The context length of the model, if reported.
    """

    dialect: str
    context: int | None


async def ask_server(
    client: httpx.AsyncClient, retries: Retries, base_url: str, model: str | None, name: str
) -> ServerInfo:
    """Ask a server for its list of models.

    Args:
        client: The HTTP client.
        retries: Sends the request.
        base_url: The server's base URL, without a slash at its end.
        model: The name of the model whose context length is wanted; `None` for any.
        name: The backend's name, for errors.

    Raises:
        BackendError: The server cannot be reached, is not ready or refuses access.
    """
    models = await _list_models(client, retries, base_url, name)
    owners = {found.get("owned_by") for found in models}
    dialects = (dialect for owner, dialect in _OWNERS.items() if owner in owners)
    return ServerInfo(next(dialects, "vllm"), _context(models, model))


async def _list_models(
    client: httpx.AsyncClient, retries: Retries, base_url: str, name: str
) -> list[dict[str, Any]]:
    """The models of a server; empty if it has no such list."""
    request = client.build_request("GET", base_url + "/models")
    try:
        response = await retries.send(client, request, name)
    except StatusError as error:
        if error.status in (401, 403) or error.is_passing:
            raise
        return []
    try:
        models = json.loads(await response.aread())["data"]
        return [model for model in models if isinstance(model, dict)]
    except (ValueError, KeyError, TypeError):
        return []
    finally:
        await response.aclose()


def _context(models: list[dict[str, Any]], name: str | None) -> int | None:
    for model in models:
        about = model.get("meta")  # llama.cpp's
        found = about.get("n_ctx") if isinstance(about, dict) else model.get("max_model_len")
        if name in (None, model.get("id")) and type(found) is int:
            return found
    return None

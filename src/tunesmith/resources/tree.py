"""The resources that a client holds, declared once for all modes, and requests to any path."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from tunesmith.core.decode import decode_any
from tunesmith.core.exchange import exchange
from tunesmith.core.flow import Flow
from tunesmith.core.modes import ModeT_co
from tunesmith.core.options import RequestOptions
from tunesmith.core.request import RequestSpec

from .operations import OperationHost, operation

if TYPE_CHECKING:
    from .batches import Batches
    from .chat_completions import Beta, Chat
    from .completions import Completions
    from .evals import Evals
    from .files import Files
    from .fine_tuning import FineTuning
    from .legacy_fine_tunes import FineTunes
    from .model_routes import ModelRoutes
    from .models import Models
    from .organization import Admin
    from .uploads import Uploads

__all__ = ["ResourceTree"]


class ResourceTree(OperationHost[ModeT_co]):
    """The resources of a client, each loaded when it is first used, and requests to any path."""

    @cached_property
    def files(self) -> Files[ModeT_co]:
        """Upload, list, read and delete files."""
        from .files import Files

        return Files(self._executor)

    @cached_property
    def uploads(self) -> Uploads[ModeT_co]:
        """Upload large files in parts."""
        from .uploads import Uploads

        return Uploads(self._executor)

    @cached_property
    def fine_tunes(self) -> FineTunes[ModeT_co]:
        """The legacy API, `/v1/fine-tunes`."""
        from .legacy_fine_tunes import FineTunes

        return FineTunes(self._executor)

    @cached_property
    def fine_tuning(self) -> FineTuning[ModeT_co]:
        """The fine-tuning jobs API: jobs, checkpoints and graders."""
        from .fine_tuning import FineTuning

        return FineTuning(self._executor)

    @cached_property
    def completions(self) -> Completions[ModeT_co]:
        """Completions of prompts."""
        from .completions import Completions

        return Completions(self._executor)

    @cached_property
    def chat(self) -> Chat[ModeT_co]:
        """Chat completions."""
        from .chat_completions import Chat

        return Chat(self._executor)

    @cached_property
    def beta(self) -> Beta[ModeT_co]:
        """The former place of `chat.completions.parse` and `stream`."""
        from .chat_completions import Beta

        return Beta(self._executor)

    @cached_property
    def models(self) -> Models[ModeT_co]:
        """The models of the server."""
        from .models import Models

        return Models(self._executor)

    @cached_property
    def model_routes(self) -> ModelRoutes[ModeT_co]:
        """Where model names lead, on the tunesmith engine."""
        from .model_routes import ModelRoutes

        return ModelRoutes(self._executor)

    @cached_property
    def batches(self) -> Batches[ModeT_co]:
        """Batches of requests."""
        from .batches import Batches

        return Batches(self._executor)

    @cached_property
    def evals(self) -> Evals[ModeT_co]:
        """Evals, reading only."""
        from .evals import Evals

        return Evals(self._executor)

    @cached_property
    def admin(self) -> Admin[ModeT_co]:
        """The organisation: what needs an administrator's key."""
        from .organization import Admin

        return Admin(self._executor)

    @operation
    def get(self, path: str, *, cast_to: Any = dict, **params: Unpack[RequestOptions]) -> Flow[Any]:
        """Send a GET request to any path of the server.

        Args:
            path: The path below the base URL, such as "/models".
            cast_to: The type to return the body as: a wire class, dict, list, str, bytes or None.
            params: The request options.
        """
        return self._plain("GET", path, cast_to, None, params)

    @operation
    def post(
        self,
        path: str,
        *,
        cast_to: Any = dict,
        body: object | None = None,
        **params: Unpack[RequestOptions],
    ) -> Flow[Any]:
        """Send a POST request with a JSON body to any path of the server.

        Args:
            path: The path below the base URL, such as "/models".
            cast_to: The type to return the body as: a wire class, dict, list, str, bytes or None.
            body: The JSON body.
            params: The request options.
        """
        return self._plain("POST", path, cast_to, body, params)

    @operation
    def put(
        self,
        path: str,
        *,
        cast_to: Any = dict,
        body: object | None = None,
        **params: Unpack[RequestOptions],
    ) -> Flow[Any]:
        """Send a PUT request with a JSON body to any path of the server.

        Args:
            path: The path below the base URL, such as "/models".
            cast_to: The type to return the body as: a wire class, dict, list, str, bytes or None.
            body: The JSON body.
            params: The request options.
        """
        return self._plain("PUT", path, cast_to, body, params)

    @operation
    def patch(
        self,
        path: str,
        *,
        cast_to: Any = dict,
        body: object | None = None,
        **params: Unpack[RequestOptions],
    ) -> Flow[Any]:
        """Send a PATCH request with a JSON body to any path of the server.

        Args:
            path: The path below the base URL, such as "/models".
            cast_to: The type to return the body as: a wire class, dict, list, str, bytes or None.
            body: The JSON body.
            params: The request options.
        """
        return self._plain("PATCH", path, cast_to, body, params)

    @operation
    def delete(
        self,
        path: str,
        *,
        cast_to: Any = dict,
        body: object | None = None,
        **params: Unpack[RequestOptions],
    ) -> Flow[Any]:
        """Send a DELETE request to any path of the server.

        Args:
            path: The path below the base URL, such as "/models".
            cast_to: The type to return the body as: a wire class, dict, list, str, bytes or None.
            body: The JSON body.
            params: The request options.
        """
        return self._plain("DELETE", path, cast_to, body, params)

    def _plain(
        self, method: str, path: str, cast_to: Any, body: object | None, options: RequestOptions
    ) -> Flow[Any]:
        full_path = path if path.startswith(("/", "http")) else f"/{path}"
        spec = RequestSpec(method, full_path, options=options)
        if body is not None:
            spec.options = {"extra_body": body, **options}
        response = yield from exchange(self._executor.settings, spec)
        return decode_any(response, cast_to)

"""What can go wrong when a model is called, and whether trying again can help.

    ModelError                   (meadowlark.errors)
    ├── CallFailed               one request was not answered; says whether a retry may help
    ├── NotRecorded              a recording holds no reply to a request
    └── TooManyFailures          dispatch gave up: most requests fail

Adapters raise the first two, dispatch decides about retries and raises the third.
"""

from __future__ import annotations

from meadowlark.errors import ModelError


class CallFailed(ModelError):
    """One request was not answered.

    ``kind`` is a short phrase that can be counted (``HTTP 400``, ``timeout``). ``retry_after_s`` is
    what the server asked for. ``endpoint_wide`` says that every other request would fail in the
    same way (a wrong key, an unknown model), so that going on is pointless.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        endpoint_wide: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.endpoint_wide = endpoint_wide


class NotRecorded(ModelError):
    """The recording holds no reply to this request: it ends here, or the prompt has changed."""


class TooManyFailures(ModelError):
    """So many requests failed that asking on would waste time and money."""

"""What can go wrong when a model is called, and whether trying again can help.

    ModelError                   (meadowlark.errors)
    ├── CallFailed               one request was not answered; says whether a retry may help
    ├── NotRecorded              a recording holds no reply to a request
    ├── BudgetReached            a request was not sent, since its cost would pass the budget
    └── TooManyFailures          dispatch gave up: most requests fail

Adapters raise the first two, dispatch decides about retries and makes the others.
"""

from __future__ import annotations

from meadowlark.errors import ModelError
from meadowlark.llm.rates import Quota


class CallFailed(ModelError):
    """One request was not answered.

    ``kind`` is a short phrase that can be counted (``HTTP 400``, ``timeout``). ``retry_after_s`` is
    what the server asked for. ``overloaded`` says that it was asked too fast, ``endpoint_wide``
    that every other request would fail in the same way (a wrong key, an unknown model), so that
    going on is pointless, ``request_only`` that the fault is this request's own (it is too long).
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        overloaded: bool = False,
        endpoint_wide: bool = False,
        request_only: bool = False,
        quota: Quota | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.overloaded = overloaded
        self.endpoint_wide = endpoint_wide
        self.request_only = request_only
        self.quota = quota


class NotRecorded(ModelError):
    """The recording holds no reply to this request: it ends here, or the prompt has changed."""


class BudgetReached(ModelError):
    """The request was not sent: its expected cost would have passed the budget."""


class TooManyFailures(ModelError):
    """So many requests failed that asking on would waste time and money."""

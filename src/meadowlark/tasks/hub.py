"""Files of a task on the Hugging Face hub, at a pinned revision.

``hf://datasets/ORG/NAME@REVISION/PATH`` comes in, the path of the file in the local cache goes
out. A revision is a commit (40 hex digits): a branch may change under a published number.
"""

from __future__ import annotations

import re
from pathlib import Path

from meadowlark.errors import UserError

SCHEME = "hf://"
_URL = re.compile(
    r"hf://datasets/(?P<repo>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>[^/\s]+))?/(?P<path>\S+)"
)


def is_hub(name: str) -> bool:
    """Whether a file is named by its place on the hub."""
    return name.startswith(SCHEME)


def on_disk(url: str) -> Path:
    """The file in the hub's local cache, downloaded where it is not there yet."""
    found = _URL.fullmatch(url)
    if found is None:
        raise UserError(f"{url}: expected hf://datasets/ORG/NAME@REVISION/PATH")
    if not re.fullmatch(r"[0-9a-f]{40}", found["revision"] or ""):
        raise UserError(
            f"{url}: the revision must be a commit (40 hex digits), so that the questions stay the "
            "same; the hub shows it under 'Files and versions'"
        )
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path: str = huggingface_hub.hf_hub_download(
            found["repo"], found["path"], repo_type="dataset", revision=found["revision"]
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{url} cannot be had: {first}") from None
    return Path(path)

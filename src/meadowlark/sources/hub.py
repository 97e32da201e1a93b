"""Sources as the Hugging Face hub holds them, each at one commit that the manifest records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.source import Source

LOCAL = "local"
"""The revision of a folder on disk that stands in for a hub data set."""


def pin(card: Source, revisions: Sequence[str]) -> dict[str, str]:
    """Each of the source's hub data sets with the commit that will be read.

    A commit that was not given is the card's, or asked of the hub where the card knows none: the
    manifest keeps it, so that the same command can be run again.
    """
    if not card.hub:
        raise UserError(f"{card.name} is not on the hub as far as we know: give --raw {card.raw}")
    if revisions and len(revisions) != len(card.hub):
        names = ", ".join(each.name for each in card.hub)
        raise UserError(f"--revision is needed once for each of {names}, in this order, or not")
    if revisions:
        return {each.name: given for each, given in zip(card.hub, revisions, strict=True)}
    return {each.name: each.revision or _newest(each.name) for each in card.hub}


def _newest(name: str) -> str:
    if Path(name).is_dir():
        return LOCAL
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise _missing() from None
    try:
        commit = HfApi().dataset_info(name).sha
    except Exception as error:  # the client raises httpx's errors and its own, all for one cause
        raise _unreachable(name, error) from None
    if commit is None:
        raise UserError(f"the hub gives no commit for the data set {name}: name one by --revision")
    return commit


def rows(
    card: Source, pinned: Mapping[str, str], settings: Mapping[str, str]
) -> Iterator[Record | Rejected]:
    """The records of all the source's hub data sets, one after the other, streamed."""
    for each in card.hub:
        items = _items(each.name, pinned[each.name], each.split)
        try:
            yield from each.rows(items, **settings)
        except KeyError as error:
            raise UserError(
                f"{each.name}@{pinned[each.name]} has no column {error}; its form has changed: "
                "name an older commit by --revision, or convert the raw form"
            ) from None


def _items(name: str, revision: str, split: str) -> Iterator[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise _missing() from None
    try:
        commit = None if revision == LOCAL else revision
        yield from datasets.load_dataset(name, split=split, revision=commit, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(name, error) from None


def _missing() -> UserError:
    return UserError("--hub reads through the package datasets: pip install 'meadowlark[sources]'")


def _unreachable(name: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()
    return UserError(
        f"the hub's data set {name} cannot be read: {reason[0] if reason else error!r}"
    )

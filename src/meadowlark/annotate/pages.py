"""The pages that people see, as HTML: everything in them is escaped, nothing in them names a model.

What is to be shown comes in; a page goes out. Styles and the script are files of this folder, so
that the pages work without any other server, and mostly without the script.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

import meadowlark
from meadowlark.annotate.agreement import Line
from meadowlark.annotate.judgements import (
    CHOICES,
    COMPARE,
    CRITERIA,
    DECISIONS,
    PARTS,
    REASONS,
    task_of,
)
from meadowlark.annotate.store import Progress
from meadowlark.records import Record, from_dict

FOLDER = Path(__file__).parent
NOTICE = f"{meadowlark.NOTICE} Enter no data of real patients."


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(notice=NOTICE, **values)


def judging_page(
    task: str,
    item: Mapping[str, Any],
    *,
    place: int,
    a_first: bool,
    said: Mapping[str, str],
    progress: Progress,
    last: int | None,
    csrf: str,
    form: str,
    study: str,
    fault: str = "",
) -> str:
    """The page on which one item is judged; ``said`` fills the form in, ``fault`` tells a mistake.

    ``last`` is the item that may be taken back.
    """
    shared = {
        "title": "Compare two answers" if task == COMPARE else "Review a row",
        "place": place,
        "said": said,
        "progress": progress,
        "last": last,
        "csrf": csrf,
        "form": form,
        "study": study,
        "fault": fault,
    }
    if task == COMPARE:
        instruction, given = task_of(item["question"])
        answers = [item["a"]["text"], item["b"]["text"]]
        return _render(
            "compare.html",
            instruction=instruction,
            input=given,
            answers=answers if a_first else answers[::-1],
            criteria=CRITERIA,
            choices=CHOICES,
            **shared,
        )
    record = from_dict(item, Record)
    return _render(
        "review.html",
        record=record,
        parts={name: said.get(name, getattr(record, name)) for name in PARTS},
        decisions=DECISIONS,
        reasons=REASONS,
        **shared,
    )


def finished_page(*, progress: Progress, last: int | None, csrf: str, study: str) -> str:
    """The page after the last item."""
    return _render(
        "finished.html",
        title="All done",
        fault="",
        progress=progress,
        last=last,
        csrf=csrf,
        study=study,
    )


def administrator_page(
    *,
    task: str,
    people: Sequence[Progress],
    agreement: Sequence[Line],
    shared: int,
    items: int,
    csrf: str,
    said: str = "",
) -> str:
    """Progress and agreement, and the button that exports; nothing that would unblind."""
    return _render(
        "administrator.html",
        title="Comparison in progress" if task == COMPARE else "Review in progress",
        names_models=task == COMPARE,
        people=people,
        done=sum(one.done for one in people),
        assigned=sum(one.assigned for one in people),
        agreement=agreement,
        shared=shared,
        items=items,
        csrf=csrf,
        said=said,
    )


def message_page(title: str, text: str) -> str:
    """A page that only says something."""
    return _render("message.html", title=title, text=text)

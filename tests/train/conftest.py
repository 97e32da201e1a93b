"""Small rows written for these tests, and a tiny tokenizer and model made from them."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meadowlark.records import Record, Turn

ORGANS = ["heart", "lungs", "liver", "kidneys", "skin", "eyes", "stomach", "brain"]
QUESTIONS = {
    "What does the {} do?": "In short, the {} keeps the body going: without it nothing works.",
    "Name one sign that the {} should be seen by a doctor.": "Pain that does not pass, or a "
    "sudden change in how the {} feels, is such a sign.",
    "How is the {} examined?": "The doctor asks, looks at the {} and orders tests: blood, images.",
}


@pytest.fixture(autouse=True, scope="session")
def _planned_once() -> Iterator[None]:
    """Runs of the same model and passes share a dry run, which depends on nothing else: a test that
    trains, stops and goes on would make it three times. ``dry_run`` itself is tested unshared."""
    from meadowlark.train import forecast

    made: dict[str, Any] = {}
    own = forecast.dry_run

    def shared(config: Any, options: Any, load: Any, **how: Any) -> Any:
        places = {"data": {"path", "validation"}, "model": {"base"}}
        asked = config.to_dict(), options.model_dump(mode="json", exclude=places), str((load, how))
        asked[0].pop("_name_or_path", None)
        key = json.dumps(asked, sort_keys=True, default=str)
        if key not in made:
            made[key] = own(config, options, load, **how)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "dry_run", shared)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_imported_is_collected() -> None:
    """The trainer collects garbage at its end: what was imported need not be looked at each time,
    as in the installed command."""
    import transformers.trainer  # noqa: F401

    gc.freeze()


@pytest.fixture(scope="session")
def records() -> list[Record]:
    """24 rows: a third with an input, one with an earlier turn; lengths differ."""
    rows = []
    for number, organ in enumerate(ORGANS):
        for index, (question, answer) in enumerate(QUESTIONS.items()):
            input = f"A patient of {40 + number} years asks. " * (number + 1) if index == 1 else ""
            output = answer.format(organ) + f" Ask again in {number + 1} weeks." * index
            rows.append(Record(question.format(organ), input, output, licence="test"))
    history = (Turn("user", "Hello?"), Turn("assistant", "How can I help?"))
    rows[5] = Record(rows[5].instruction, rows[5].input, rows[5].output, history, licence="test")
    return rows


@pytest.fixture(scope="session")
def tokenizer(records: list[Record]) -> Any:
    """A byte-level tokenizer of the rows, with the Alpaca template compiled in."""
    from meadowlark.templates import TEMPLATES
    from meadowlark.train.tokenizer import learn_tokenizer, learning_texts

    made = learn_tokenizer(learning_texts(records, TEMPLATES["alpaca"]), 420, 512)
    made.chat_template = TEMPLATES["alpaca"].chat_template()
    return made


@pytest.fixture
def model(tokenizer: Any) -> Any:
    """A fresh LLaMA of two layers with grouped keys, on packed attention."""
    from meadowlark.train.attention import use_packed_attention
    from meadowlark.train.model import new_llama
    from meadowlark.train.options import FromScratchOptions

    options = FromScratchOptions(width=32, layers=2, heads=4, kv_heads=2, context=512)
    made = new_llama(options, tokenizer, seed=1)
    use_packed_attention(made, 512)
    return made


@pytest.fixture
def mixed(records: list[Record], tmp_path: Path) -> Path:
    """A folder as ``mix`` makes it: 20 training and 4 validation rows."""
    from meadowlark.dataset import write_table
    from meadowlark.records import to_table

    folder = tmp_path / "mixed"
    folder.mkdir()
    write_table(folder / "rows.parquet", to_table(records[:20], Record))
    write_table(folder / "validation.parquet", to_table(records[20:], Record))
    return folder

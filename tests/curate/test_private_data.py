"""Private data: measured on the frozen sentences, and on real exam questions; surrogates and
dates."""

import datetime
import json
import re
import stat
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.curate.clean import PRIVATE_FILE, clean, read_rules
from meadowlark.curate.identifiers import Span, find, months
from meadowlark.curate.options import PrivateDataOptions
from meadowlark.curate.private_data import _with, make_finder, places, redacted
from meadowlark.curate.surrogates import Surrogates, shifted
from meadowlark.dataset import fingerprint, read, read_manifest, read_table
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.tasks import load, resolve

SET = Path(__file__).parent / "private_data"
FREE_TEXT = {"NAME", "PLACE"}


def _sentences(name: str) -> list[dict]:
    return [json.loads(line) for line in (SET / name).read_text("utf-8").splitlines()]


LABELLED = re.compile(r"\[((?:[^][|]|\[[^]]*\])+)\|([A-Z_]+)\]")


def _elsewhere() -> list[tuple[str, dict]]:
    """Every labelled span of the second set with its text."""
    wanted = []
    for line in (SET / "elsewhere.txt").read_text("utf-8").splitlines():
        text, spans, at = "", [], 0
        for match in LABELLED.finditer(line):
            text += line[at : match.start()]
            spans.append({"start": len(text), "end": len(text) + len(match[1]), "kind": match[2]})
            text, at = text + match[1], match.end()
        wanted += [(text + line[at:], span) for span in spans]
    return wanted


def _found(text: str, span: dict) -> bool:
    covered = {i for found in find(text) for i in range(found.start, found.end)}
    return all(i in covered for i in range(span["start"], span["end"]) if text[i].isalnum())


def test_of_structured_identifiers_at_least_98_in_100_are_found() -> None:
    wanted = [
        (row["text"], span)
        for row in _sentences("identifiers.jsonl")
        for span in row["spans"]
        if span["kind"] not in FREE_TEXT
    ]
    assert len(wanted) == 362
    found = sum(_found(text, span) for text, span in wanted)
    assert found / len(wanted) >= 0.98


TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Sgt)\b\.?|,\s(?:MD|M\.D\.|DO|NP|RN|PA-C|PhD)(?!\w)")
"""What stands before and behind a name and tells nobody who it is."""


def test_of_names_all_but_one_in_twenty_are_found_whatever_their_title() -> None:
    """After the patterns were mended with these sentences in view: docs/private-data.md."""
    wanted = []
    for row in _sentences("identifiers.jsonl"):
        for span in (span for span in row["spans"] if span["kind"] == "NAME"):
            name = row["text"][span["start"] : span["end"]]
            bare = TITLES.sub("", name).strip()
            start = span["start"] + name.index(bare)
            wanted.append((row["text"], {"start": start, "end": start + len(bare)}))
    assert len(wanted) > 40
    assert sum(_found(text, span) for text, span in wanted) >= 0.95 * len(wanted)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Harold Tennant was seen in clinic.", ["Harold Tennant"]),
        ("Charles Bonnet syndrome was seen.", []),
        ("Robert B. Ashgrove denies chest pain.", ["Robert B. Ashgrove"]),
        ("Pt Kowalczyk seen and examined.", ["Kowalczyk"]),
        ("Pt Education was given.", []),
        ("A man named Wendell Ashgrove has gout.", ["Wendell Ashgrove"]),
        ("A syndrome named Bardet Biedl is rare.", []),
        ("O'Rourke, Maeve (1940-03-22) CT chest.", ["O'Rourke, Maeve"]),
        ("ASHGROVE, WENDELL DOB 3/4/1950", ["ASHGROVE, WENDELL"]),
        ("Springfield, Illinois (3/4/2019)", []),
        ("My name is Imogen Salt.", ["Imogen Salt"]),
    ],
)
def test_names_by_what_stands_around_them(text: str, names: list[str]) -> None:
    assert [text[s.start : s.end] for s in find(text) if s.kind == "NAME"] == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mr. ASHGROVE was admitted.", ["ASHGROVE"]),
        ("MR JOHN ASHGROVE WAS ADMITTED.", ["JOHN ASHGROVE"]),
        ("MR. ASHGROVE WAS SEEN.", ["ASHGROVE"]),
        ("MRS ASHGROVE DENIES PAIN.", ["ASHGROVE"]),
        ("JOHN Q. ASHGROVE WAS ADMITTED.", ["JOHN Q. ASHGROVE"]),
        ("PATIENT NAME - WENDELL ASHGROVE", ["WENDELL ASHGROVE"]),
        ("Patient name: ashgrove, wendell", ["ashgrove, wendell"]),
        ("Patient: JOHN Q. ASHGROVE", ["JOHN Q. ASHGROVE"]),
        ("DR. GREGORY SALT, MD", ["GREGORY SALT"]),
        ("Electronically signed by: JANE SALT MD", ["JANE SALT"]),
        ("Dr. van der Berg reviewed.", ["van der Berg"]),
        ("His wife Maria called.", ["Maria"]),
        ("MRN is 00123456.", ["00123456"]),
        ("Medical record number is 998877.", ["998877"]),
        ("DOB 12031956.", ["12031956"]),
        ("Phone: 07700 900123.", ["07700 900123"]),
        ("Tél : 01 23 45 67 89.", ["01 23 45 67 89"]),
        ("Phone 98765-43210.", ["98765-43210"]),
        ("Call 555\u2011123\u20114567.", ["555\u2011123\u20114567"]),
        ("SSN 123\u201345\u20136789", ["123\u201345\u20136789"]),
        (
            "\uff2d\uff32\uff2e\uff1a\uff10\uff10\uff11\uff12\uff13",
            ["\uff10\uff10\uff11\uff12\uff13"],
        ),
        ("03\u221504\u22152021 seen.", ["03\u221504\u22152021"]),
    ],
)
def test_other_hands_write_identifiers_too(text: str, found: list[str]) -> None:
    assert [text[s.start : s.end] for s in find(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "HISTORY OF MS. SHE DENIES PAIN.",
        "SEVERE MR. LVEF 45%.",
        "MR IMAGING OF THE BRAIN.",
        "MS PATIENTS IMPROVE.",
        "PROLIFERATIVE DR WITH MACULAR EDEMA. DR SCREENING PROGRAM.",
        "PATIENT: ALERT AND ORIENTED.",
        "SEEN BY ICU TEAM. Seen by ENT and GP.",
        "Miss DOSES and take two the next day?",
        "PAUL BUNNELL TEST WAS POSITIVE.",
        "The MRN is unknown. The order was 1234 pages.",
        "Days 3\u20135, 2019\u20132020, 10\u201315 mg, 100\u2013200 mL, pp. 1234\u20131250.",
        "Phone interviews of 1200 3500 patients.",
    ],
)
def test_words_in_capitals_and_ranges_are_no_identifiers(text: str) -> None:
    assert find(text) == []


def test_no_look_alike_is_touched() -> None:
    assert [r["text"] for r in _sentences("lookalikes.jsonl") if find(r["text"])] == []


ASKED_FOR = frozenset("DATE PHONE SSN MRN HEALTH_PLAN ACCOUNT VEHICLE".split())


def test_of_the_second_set_what_was_asked_for_is_found_and_the_rest_is_known() -> None:
    """After the patterns were written with these sentences in view: docs/private-data.md."""
    wanted = _elsewhere()
    assert len(wanted) == 116
    missed = [span["kind"] for text, span in wanted if not _found(text, span)]
    assert not ASKED_FOR & set(missed)
    assert Counter(missed) == {
        "AGE": 8, "NAME": 7, "EMAIL": 5, "ADDRESS": 3, "OTHER_ID": 2, "URL": 1,
    }  # fmt: skip


def test_no_look_alike_of_the_second_set_is_touched() -> None:
    texts = (SET / "elsewhere_lookalikes.txt").read_text("utf-8").splitlines()
    assert [text for text in texts if find(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "4 Mayo sites and 3 Mars missions", "Mars 2020 landed.", "3 mai-tai", "Mai 34 of 50",
        "Grew 5 MAI isolates.", "MAI 2019", "5 set 2019", "DIC 2019", "12 mars 2015;12(3):45",
        "1.5 mars", "on 45 juin", "junior 3 mayor 2", "99 de mayo", "Cinco de Mayo",
    ],
)  # fmt: skip
def test_what_looks_like_another_languages_date_is_none(text: str) -> None:
    assert find(text) == []


def test_the_real_medqa_questions_change_nowhere(real_data: Path) -> None:
    questions, _ = load(resolve("medqa", real_data))
    assert len(questions) == 1273
    texts = [text for q in questions for text in (q.prompt, *q.choices)]
    assert [text for text in texts if find(text)] == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("A 92-year-old man has a cough.", []),  # how exams open
        ("Pt is a 92-year-old man with a cough.", ["AGE"]),
        ("A 92-year-old man, MRN 448120, has a cough.", ["AGE", "MRN"]),
        ("Fever up to 101F, aged up to age 90.", []),
        ("This 101F fell at home.", ["AGE"]),
        ("A trip to St. Louis, Missouri, a month ago.", []),
        ("Seen 3/4/2019 in St. Louis, Missouri.", ["DATE", "PLACE"]),
    ],
)
def test_an_exam_vignettes_age_and_a_town_count_only_beside_something_else(
    text: str, kinds: list[str]
) -> None:
    assert [span.kind for span in find(text)] == kinds


def test_a_name_announced_once_is_found_wherever_it_stands() -> None:
    record = Record(
        "Summarise", "Patient name: Ada Quillfeather. Quillfeather has gout.", "Quillfeather"
    )
    found = places(record, find)
    assert [(p.field, p.text) for p in found] == [
        ("input", "Ada Quillfeather"),
        ("input", "Quillfeather"),
        ("output", "Quillfeather"),
    ]


def test_a_patient_called_graves_does_not_take_the_disease_along() -> None:
    record = Record("Mr. Graves has Graves disease.", "", "Graves disease is treated.")
    assert [p.text for p in places(record, find)] == ["Graves"]


NOTE = Record(
    "Summarise the note.",
    "Mr. Tobin Ekwall, MRN 00482913, seen 03/14/2019 and 03/21/2019; call (555) 013-4482. "
    "Mr. Ekwall takes lisinopril 20 mg.",
    "Ekwall was seen on 03/14/2019, record MRN 00482913.",
)


def test_surrogates_are_the_same_within_a_record_and_others_in_another() -> None:
    made, filled = redacted(NOTE, places(NOTE, find), b"secret", 364)
    by_text: dict[str, set[str]] = {}
    for place in filled:
        by_text.setdefault(place.text, set()).add(place.replacement)
    assert all(len(replacements) == 1 for replacements in by_text.values())
    assert by_text["Tobin Ekwall"].pop().split()[1] in by_text["Ekwall"]
    assert not any(word in made.input + made.output for word in ("Ekwall", "Tobin", "00482913"))
    assert "lisinopril 20 mg" in made.input
    other, _ = redacted(NOTE, places(NOTE, find), b"another secret", 364)
    assert other.input != made.input


def test_all_dates_of_a_record_move_by_one_offset() -> None:
    made, _ = redacted(NOTE, places(NOTE, find), b"secret", 364)
    dates = [
        datetime.datetime.strptime(text, "%m/%d/%Y")
        for text in re.findall(r"\d\d/\d\d/\d{4}", made.input)
    ]
    assert len(dates) == 2
    assert (dates[1] - dates[0]).days == 7
    assert dates[0] != datetime.datetime(2019, 3, 14)


def test_a_redacted_record_does_not_carry_the_hash_of_what_was_replaced() -> None:
    made, _ = redacted(NOTE, places(NOTE, find), b"secret", 364)
    assert made.id != NOTE.id
    assert NOTE.id not in made.parents


@pytest.mark.parametrize(
    ("text", "reason", "days", "expected"),
    [
        ("03/14/2019", "month/day/year", 20, "04/03/2019"),
        ("1979-12-30", "year-month-day", 3, "1980-01-02"),
        ("15.01.2021", "month/day/year", 1, "16.01.2021"),
        ("01-FEB-1937", "day-month-year", 28, "01-MAR-1937"),
        ("Sept. 9, 2011", "month and day", 1, "Sep. 10, 2011"),
        ("the 1st of March", "day and month", 1, "the 2nd of March"),
        ("Tuesday, March 3rd", "month and day", 1, "Wednesday, March 4th"),
        ("March 2017", "month and year", 31, "April 2017"),
        ("2017-05-30T14:22:10", "year-month-day", 2, "2017-06-01T14:22:10"),
        ("20190822", "eight digits", 10, "20190901"),
        ("Thanksgiving", "a holiday", 5, "[date]"),
        ("3 de marzo de 1954", "", 30, "2 de abril de 1954"),
        ("5 DE MAYO DE 2018", "", 31, "5 DE JUNIO DE 2018"),
        ("08/dez/2021", "", 31, "08/jan/2022"),
        ("1er février 2020", "", 2, "3 février 2020"),
        ("30 avril 2018", "", 1, "1 mai 2018"),
        ("31 août 2018", "", -30, "1 août 2018"),
        ("14 déc. 2019", "", 60, "12 févr. 2020"),
        ("3. März 1948", "", -20, "12. Februar 1948"),
        ("1° luglio 1955", "", 31, "1° agosto 1955"),
        ("4. Okt. 2019", "", 30, "3. Nov. 2019"),
        ("15. Jänner 2021", "", 31, "15. Februar 2021"),
        ("6 maart 2020", "", 31, "6 april 2020"),
    ],
)
def test_a_moved_date_is_written_as_the_one_before(
    text: str, reason: str, days: int, expected: str
) -> None:
    assert shifted(text, reason, days) == expected


@given(
    st.dates(datetime.date(1920, 1, 1), datetime.date(2090, 1, 1)),
    st.integers(-364, 364),
    st.sampled_from(["%Y-%m-%d", "%m/%d/%Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y"]),
)
def test_moving_a_date_is_what_the_calendar_says(date: datetime.date, days: int, form: str) -> None:
    (span,) = find(f"Seen on {date.strftime(form)}.")
    text = date.strftime(form)
    moved = shifted(text, span.reason, days)
    assert datetime.datetime.strptime(moved, form).date() == date + datetime.timedelta(days)


@given(
    st.sampled_from(months.LANGUAGES),
    st.dates(datetime.date(1920, 1, 1), datetime.date(2090, 1, 1)),
    st.integers(-364, 364),
)
def test_a_date_moves_by_the_calendar_in_each_language(
    language: months.Language, date: datetime.date, days: int
) -> None:
    """Whatever name another month gets, it is one of the month's; where a name is one language's
    alone, the surrogate's is that language's."""
    text = f"{date.day} {language.full[date.month - 1]} {date.year}"
    if language is months.ENGLISH:
        text = text.title()
    (span,) = find(f"({text})")
    assert (span.start, span.end) == (1, 1 + len(text))
    day, month, year = shifted(text, span.reason, days).split()
    moved = date + datetime.timedelta(days)
    assert (int(day), months.number(month), int(year)) == (moved.day, moved.month, moved.year)
    if sum(language.full[date.month - 1] in other.full for other in months.LANGUAGES) == 1:
        assert month.lower() == language.full[moved.month - 1]


def test_surrogate_numbers_are_of_the_ranges_that_belong_to_nobody() -> None:
    made = Surrogates(b"s", "k", 364)
    assert made("219-09-4471", Span(0, 0, "SSN", "")).startswith("9")
    assert re.fullmatch(r"\(\d{3}\) 555-01\d\d", made("(614) 234-0187", Span(0, 0, "PHONE", "")))
    assert made("a.b@c.org", Span(0, 0, "EMAIL", "")).endswith("@example.org")
    assert made("10.24.118.9", Span(0, 0, "IP", "")).startswith("192.0.2.")


def test_kinds_that_are_not_asked_for_are_not_found() -> None:
    finder = make_finder(PrivateDataOptions(action="flag", kinds=("SSN",)))
    assert [s.kind for s in finder("SSN 219-09-4471, seen 03/14/2019")] == ["SSN"]


def _notes(tmp_path: Path) -> Path:
    file = tmp_path / "notes.jsonl"
    rows = [{"instruction": NOTE.instruction, "input": NOTE.input, "output": NOTE.output}]
    rows.append({"instruction": "What is gout?", "output": "Gout is a form of arthritis."})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_without_what_was_found_a_folder_is_as_good_as_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    clean(_notes(tmp_path), out, options=read_rules(None, (), "redact"))
    before = fingerprint(out)
    (out / PRIVATE_FILE).unlink()
    assert fingerprint(out) == before
    assert PRIVATE_FILE not in read_manifest(out).outputs


@pytest.mark.parametrize("phi", ["flag", "redact", "drop"])
def test_spans_are_kept_apart_and_only_their_owner_may_read_them(phi: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    clean(_notes(tmp_path), out, options=read_rules(None, (), phi))
    file = out / PRIVATE_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    spans = pq.read_table(file).to_pylist()
    for span in spans:
        assert getattr(NOTE, span["field"])[span["start"] : span["end"]] == span["text"]
    kept, _ = read(out, Record)
    rejected = read_table(out / "rejected.parquet", Record).to_pylist()
    if phi == "flag":
        assert kept[0].input == NOTE.input
        assert kept[0].tags["private_data"] == "3 DATE, 2 MRN, 3 NAME, 1 PHONE"
    elif phi == "redact":
        assert len(kept) == 2
    else:
        assert [row["reason"] for row in rejected] == ["private data"]
        assert rejected[0]["detail"] == "3 DATE, 2 MRN, 3 NAME, 1 PHONE"
    if phi != "flag":
        everything = (
            b"".join(p.read_bytes() for p in out.iterdir() if p.name not in (PRIVATE_FILE,))
            + json.dumps(rejected + [r.input for r in kept]).encode()
        )
        assert b"Ekwall" not in everything
        assert b"00482913" not in everything


def test_copies_of_a_note_are_duplicates_though_their_surrogates_differ(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    rows = [
        {"instruction": "Copy", "input": f"{NOTE.input}{end}", "output": "x"} for end in ("", " ")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = clean(file, tmp_path / "out", options=read_rules(None, (), "redact"))
    assert run.manifest.rows["rejected"] == {"exact duplicate": 1}


# --------------------------------------------------------------------------- Presidio


class _Result(NamedTuple):
    start: int
    end: int
    entity_type: str
    score: float


class _Engine:
    """Presidio's engine, which here takes every word with a capital for a person."""

    def __init__(self, nlp_engine: object, supported_languages: list[str]) -> None:
        assert nlp_engine == ("spacy", "en_core_web_md")
        assert supported_languages == ["en"]

    def analyze(self, text: str, language: str, entities: list[str]) -> list[_Result]:
        assert language == "en"
        kind = {"Otley": "LOCATION"}
        results = [
            _Result(*m.span(), kind.get(m[0], "PERSON"), 0.3 if m[0] == "Doubtful" else 0.85)
            for m in re.finditer(r"[A-Z]\w*|\d+", text)
        ]
        return [result for result in results if result.entity_type in entities]


class _Provider:
    def __init__(self, *, nlp_configuration: dict) -> None:
        (model,) = nlp_configuration["models"]
        self.made = (nlp_configuration["nlp_engine_name"], model["model_name"])

    def create_engine(self) -> tuple[str, str]:
        return self.made


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A stand-in for Presidio; the set holds the models of spaCy that are there."""
    models: set[str] = set()
    presidio, engines = ModuleType("presidio_analyzer"), ModuleType("presidio_analyzer.nlp_engine")
    util = ModuleType("spacy.util")
    presidio.AnalyzerEngine = _Engine  # type: ignore[attr-defined]
    engines.NlpEngineProvider = _Provider  # type: ignore[attr-defined]
    util.get_installed_models = lambda: sorted(models)  # type: ignore[attr-defined]
    for module in (presidio, engines, util):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "spacy", ModuleType("spacy"))
    return models


def test_presidio_adds_names_and_places_but_no_numbers(stand_in: set[str]) -> None:
    stand_in.update(("en_core_web_sm", "en_core_web_md", "de_core_news_lg"))
    finder = make_finder(PrivateDataOptions(action="flag", names="presidio"))
    text = "Maeve of Otley, MRN 00482913, age 44, BP, Doubtful"
    assert [(text[s.start : s.end], s.kind) for s in finder(text)] == [
        ("Maeve", "NAME"),
        ("Otley", "PLACE"),
        ("00482913", "MRN"),
    ]


def test_a_recogniser_takes_nothing_away() -> None:
    mrn, name = Span(10, 18, "MRN", ""), Span(30, 36, "NAME", "")
    across, around, longer = (
        Span(a, b, "NAME", "Presidio") for a, b in ((15, 28), (8, 20), (24, 36))
    )
    assert _with([mrn, name], [across, around, longer]) == [mrn, longer]
    assert _with([mrn, name], [Span(33, 50, "NAME", "Presidio")]) == [mrn, name]


def test_presidio_finds_only_the_kinds_that_are_asked_for(stand_in: set[str]) -> None:
    stand_in.add("en_core_web_md")
    options = PrivateDataOptions(action="flag", names="presidio", kinds=("NAME",))
    assert [s.kind for s in make_finder(options)("Maeve of Otley")] == ["NAME"]


def test_presidio_without_a_model_downloads_none(stand_in: set[str]) -> None:
    with pytest.raises(UserError, match="spacy download en_core_web_lg"):
        make_finder(PrivateDataOptions(action="flag", names="presidio"))


def test_identifiers_in_a_files_other_columns_are_found_by_the_columns_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "d.csv").write_text(
        "instruction,output,patient_name,mrn,ward,topic\n"
        "Explain what Ashgrove should know about fever.,Rest and fluids help; call after two days.,"
        "Wendell Ashgrove,00123456,7,fever\n"
        "Explain fever to a class of ten.,It is a raised temperature of the body.,,,,fever\n"
    )
    for action in ("redact", "flag"):
        out = tmp_path / action
        clean(tmp_path / "d.csv", out, options=read_rules(None, [], action))
        private = {
            (row["field"], row["kind"], row["text"])
            for row in pq.read_table(out / PRIVATE_FILE).to_pylist()
        }
        assert private == {
            ("tags.patient_name", "NAME", "Wendell Ashgrove"),
            ("tags.mrn", "MRN", "00123456"),
            ("instruction", "NAME", "Ashgrove"),
        }
        rows, _ = read(out, Record)
        text = json.dumps([row.instruction for row in rows] + [dict(row.tags) for row in rows])
        assert ("Ashgrove" in text) is ("00123456" in text) is (action == "flag")
        assert {row.tags.get("ward") for row in rows} == {"7", ""}
        assert {row.tags["topic"] for row in rows} == {"fever"}

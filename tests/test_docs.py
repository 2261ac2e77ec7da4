"""README.md and data/README.md: what they name exists, what they show works, and no key lacks its sentence."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import click
import narwhals as nw
import pytest

import journeykit
from journeykit import cli, config, engine, events, reference
from journeykit.config import Part, Study
from journeykit.errors import JourneyError
from journeykit.study import OpenStudy

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODEBOOK = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
SAMPLE = (ROOT / "data" / "laptop_store" / "journey.toml").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
SMALLEST = next(text for language, text in BLOCKS if language == "toml")
MODULES = [
    importlib.import_module(f"journeykit.{found.name}")
    for found in pkgutil.iter_modules(journeykit.__path__)
    if found.name.startswith("config")
]
MODELS = list(dict.fromkeys(model for model, _ in reference._parts(Study, "")))


def test_the_reference_of_keys_is_in_step_with_the_models(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(CODEBOOK, encoding="utf-8")
    assert not reference.write(copy), "run `.venv/bin/python -m journeykit.reference` and commit data/README.md"
    copy.write_text(CODEBOOK.replace("| currency |", "| money |"), encoding="utf-8")
    assert reference.write(copy)
    assert copy.read_text(encoding="utf-8") == CODEBOOK


def test_a_file_without_the_marks_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text("# Codebook\n", encoding="utf-8")
    with pytest.raises(JourneyError, match="a mark of the reference is missing"):
        reference.write(copy)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_says_what_follows_from_it(model: type[Part]) -> None:
    for name, kind, default, sentence in reference.keys(model):
        assert kind, name
        assert default, name
        assert re.fullmatch(r"\S.*[.…]", sentence), f"{model.__name__}.{name}: {sentence!r} is not a sentence"


def test_the_reference_covers_every_model_of_journey_toml() -> None:
    declared = {
        found
        for module in MODULES
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Part) and found is not Part
    }
    assert declared == set(MODELS)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README + CODEBOOK, re.MULTILINE))
    assert named >= {"report", "lab", "check", "test", "refresh", "bench", "help"}
    assert named <= targets


def test_every_command_and_option_that_is_named_exists() -> None:
    called = re.findall(r"-m journeykit (\w+)(.*)", README)
    assert {name for name, _ in called} <= set(cli.main.commands)
    for name, rest in called:
        options = {option for one in _options(name) for option in one.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", rest.split(">")[0])) <= options
    anywhere = {option for name in cli.main.commands for one in _options(name) for option in one.opts}
    assert set(re.findall(r"`(--[a-z]+)`", README + CODEBOOK)) <= anywhere


def _options(name: str) -> list[click.Parameter]:
    return [one for one in cli.main.commands[name].params if isinstance(one, click.Option)]


def test_commands_are_called_from_the_environment_that_make_makes() -> None:
    """Neither the package nor papermill is on the path of a shell."""
    for _, text in BLOCKS:
        for line in text.splitlines():
            for tool in re.findall(r"(\S*) -m (?:journeykit|pip|jupyter)\b", line):
                assert tool.replace("\\", "/") in (".venv/bin/python", ".venv/Scripts/python"), line
            assert not re.search(r"(?<!bin/)\bpapermill\b", line), line


def test_the_chapter_table_lists_exactly_the_notebooks() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\)", README, re.MULTILINE)
    assert [name for name, _ in listed] == [path for _, path in listed]
    assert [name for name, _ in listed] == sorted(path.stem for path in (ROOT / "notebooks").glob("*_*.ipynb"))


def test_the_presets_that_are_named_are_the_presets() -> None:
    named = re.search(r"^Presets: ([^.]*)\.", README, re.MULTILINE)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(config.presets())


@pytest.mark.parametrize("text", [README, CODEBOOK], ids=["README", "codebook"])
def test_links_lead_somewhere(text: str) -> None:
    folder = ROOT if text == README else ROOT / "data"
    for target in re.findall(r"\]\(([^)#]*)", text):
        assert not target or (folder / target).exists(), target
    for file, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", text):
        linked = (folder / file).read_text(encoding="utf-8") if file else text
        headings = re.findall(r"^#+ (.*)", linked, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_smallest_journey_toml_reads_such_an_export(tmp_path: Path) -> None:
    plan = config.parse(tomllib.loads(SMALLEST))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "events_1.csv").write_text(
        "Zeitpunkt;Ereignis;Kundennummer;Cookie;Betrag_Cent\n"
        "03.07.2025 12:06;product_view;;d-1;\n"
        "03.07.2025 12:09;cart;c-1;d-1;\n"
        "03.12.2025 12:10;order;c-1;d-1;129900\n",
        encoding="utf-8",
    )
    study = OpenStudy(tmp_path, plan)
    events.ingest(study)
    read = engine.fetch(study.table("events").sort("timestamp").with_columns(nw.col("timestamp").cast(nw.String)))
    assert [text[:16] for text in read["timestamp"]] == ["2025-07-03 10:06", "2025-07-03 10:09", "2025-12-03 11:10"]
    assert read["stage"].tolist() == ["Choose", "Buy", "Buy"]
    assert read["value"].dropna().tolist() == [1299.0]
    assert len(SMALLEST.splitlines()) <= 25


def test_the_shapes_that_are_shown_are_keys_of_a_source() -> None:
    shown = re.findall(r"^\| (`\w+ = .*?) \|", README, re.MULTILINE)
    assert len(shown) >= 9
    for cell in shown:
        for line in re.findall(r"`([^`]*)`", cell):
            said = tomllib.loads(line.replace(", …]", "]"))
            assert set(said) <= set(config.Source.model_fields), line
            if "time" in said:
                config.Time.model_validate(said["time"])


def test_the_sample_explains_each_key_that_it_uses() -> None:
    explained = set(re.findall(r"^([a-z_]+) = .* # ", SAMPLE, re.MULTILINE))
    explained |= set(re.findall(r"^# .*\n([a-z_]+) = ", SAMPLE, re.MULTILINE))
    known = {name for model in MODELS for name, *_ in reference.keys(model)}
    used = set(re.findall(r"^([a-z_]+) = ", SAMPLE, re.MULTILINE)) & known
    plain = {"title", "question", "format", "label", "control"}  # their values explain themselves
    assert used - explained <= plain, used - explained


@pytest.mark.parametrize("text", [README, CODEBOOK, SAMPLE], ids=["README", "codebook", "sample"])
def test_no_path_of_a_machine_is_shown(text: str) -> None:
    assert not re.search(r"(/home/|/Users/|/work/|/tmp/|C:\\)", text)

"""Many fields on many workers: the same result as one worker's, from wherever it was interrupted."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import LEUKO, assert_refused, draw, draw_files, environment, leuko
from hypothesis import given
from hypothesis import strategies as st

from edge import app, config, files, session
from edge.archive import codec, run
from edge.archive.engine import Ended, Engine, Job, Outcome, Piece, open_engine
from edge.archive.fields import FieldJob, Identity
from edge.archive.workfile import WorkFile, natural
from edge.config import Config
from edge.core.errors import LeukoError, StoreError, UsageError
from edge.core.types import FieldFailure, ResultRecord

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of fields, one within the other, with what is no picture, and what is not meant."""
    folder = tmp_path_factory.mktemp("archive")
    draw_files(folder, 9, width=400, height=300)
    draw_files(folder / "slide 2", 3, width=360, height=300)
    (folder / "field 4b.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not a picture either")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "field 1.png").write_bytes(b"hidden")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path / "data")})


class Stopping:
    """An engine that stops after some pieces, as a power cut would, and counts those that it was given."""

    name = "serial"
    isolates = False

    def __init__(self, pieces: int = 1_000_000) -> None:
        self.left, self.begun = pieces, 0

    def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        def counted() -> Iterator[Piece]:
            for piece in pieces:
                self.begun += 1
                yield piece

        for outcome in open_engine("serial", 1).run(job, counted()):
            yield outcome
            self.left -= isinstance(outcome, Ended)
            if self.left == 0:
                raise KeyboardInterrupt


def same(one: ResultRecord, other: ResultRecord) -> bool:
    documents = [{**each.document, "elapsed_seconds": 0} for each in (one, other)]
    return json.dumps(documents[0]) == json.dumps(documents[1]) and one.pictures == other.pictures


def test_a_field_is_the_same_after_the_way_as_bytes(settings: Config) -> None:
    (frame,) = draw(1, width=480, height=360)
    with app.worker_pipeline(settings) as pipeline:
        field = session.analyse_field(frame, pipeline)
    assert field.cells
    back = codec.decode(codec.encode(field, pictures=True))
    for one, other in zip(_values(field), _values(back), strict=True):
        assert one == other
    small = codec.decode(codec.encode(field, pictures=False))
    assert [each.call.probabilities for each in small.cells] == [each.call.probabilities for each in field.cells]
    assert small.preview is None
    failure = FieldFailure("a", "truncated", "It is cut.")
    assert codec.decode(codec.encode(failure, pictures=True)) == failure


def _values(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from _values(getattr(value, each.name))
    elif isinstance(value, tuple):
        yield len(value)
        for each in value:
            yield from _values(each)
    elif hasattr(value, "tobytes"):
        yield (str(value.dtype), value.shape, value.tobytes())
    else:
        yield value


@given(st.lists(st.text(alphabet="aAbB019 _-é", min_size=1, max_size=8), unique=True, max_size=12))
def test_the_disk_puts_names_in_the_order_that_a_folder_has(names: list[str]) -> None:
    paths = [f"/x/{name}.png" for name in names]
    assert sorted(paths, key=lambda each: (natural(each), os.fsencode(each))) == [
        str(each) for each in sorted(map(Path, paths), key=files.natural_order)
    ]


@pytest.mark.parametrize("engine", [("serial", 1), ("processes", 2)])
def test_a_sample_is_the_same_on_every_engine(engine: tuple[str, int], archive: Path, settings: Config) -> None:
    alone = app.analyse(app.replay([archive]), "S-1", settings)
    told: list[Any] = []
    many = run.analyse_sample([archive], "S-1", settings, open_engine(*engine), on_field=told.append)
    assert len(told) == 10 and same(alone, many)
    assert sum("error" in field for field in many.document["fields"]) == 1
    with app.open_store(settings, read_only=True) as store:
        assert store.get(many.id) == many
    assert list((settings.data_path / "unfinished").iterdir()) == []


def test_a_sample_goes_on_from_where_it_was_interrupted(archive: Path, settings: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.analyse_sample([archive], "S-1", settings, Stopping(4))
    (left,) = (settings.data_path / "unfinished").glob("*.sqlite3")
    assert left.stat().st_mode & 0o077 == 0 or left.parent.stat().st_mode & 0o077 == 0
    engine, begun = Stopping(), []
    record = run.analyse_sample([archive], "S-1", settings, engine, on_begin=lambda *found: begun.append(found))
    assert (engine.begun, begun) == (6, [(4, 10)])
    assert same(record, app.analyse(app.replay([archive]), "S-1", settings))


def test_a_changed_picture_is_analysed_anew(tmp_path: Path, settings: Config) -> None:
    first, second = draw_files(tmp_path / "fields", 2, width=360, height=300)
    with pytest.raises(KeyboardInterrupt):
        run.analyse_sample([first.parent], "S-1", settings, Stopping(1))
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(1, 1))
    engine = Stopping()
    run.analyse_sample([first.parent], "S-1", settings, engine)
    assert engine.begun == 2


def test_an_archive_is_the_same_on_every_engine_and_after_every_interruption(
    archive: Path, tmp_path: Path, settings: Config
) -> None:
    whole = run.analyse_archive([str(archive)], tmp_path / "whole", settings, open_engine("serial", 1))
    assert (whole.folders, whole.fields, whole.unreadable) == (2, 13, 1)
    lines = [json.loads(each) for each in (tmp_path / "whole" / "fields.jsonl").read_text().splitlines()]
    alone = app.analyse(app.replay([archive]), "S-1", settings).document
    assert [{**each, "file": Path(each["file"]).name} for each in lines[:10] if "quality" in each] == [
        {**each, "file": Path(each["file"]).name} for each in alone["fields"] if "quality" in each
    ]
    first, second = (json.loads(each) for each in (tmp_path / "whole" / "folders.jsonl").read_text().splitlines())
    assert first["differential"] == alone["differential"] and first["fields"] == 10
    assert Path(second["folder"]).name == "slide 2" and second["fields"] == 3
    counts = [each["differential"]["counted"] for each in (first, second)]
    assert sum(counts) == whole.counted == sum(whole.classes.values())

    run.analyse_archive([str(archive)], tmp_path / "processes", settings, open_engine("processes", 2))
    steps = 0
    for _ in range(10):
        steps += 1
        try:
            run.analyse_archive([str(archive)], tmp_path / "steps", settings, Stopping(4))
            break
        except KeyboardInterrupt:
            continue
    assert steps == 4
    for other in ("processes", "steps"):
        assert sorted(each.name for each in (tmp_path / other).iterdir()) == [
            *("fields.jsonl", "folders.jsonl", "summary.json")
        ]
        for name in ("fields.jsonl", "folders.jsonl"):
            assert (tmp_path / other / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(UsageError) as caught:
        run.analyse_archive([str(archive)], tmp_path / "steps", settings, open_engine("serial", 1))
    assert caught.value.code == "archive-finished"


def test_what_cannot_be_gone_on_with_is_refused(archive: Path, tmp_path: Path, settings: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.analyse_archive([str(archive)], tmp_path / "out", settings, Stopping(1))
    with pytest.raises(UsageError) as caught:
        run.analyse_archive([str(archive / "slide 2")], tmp_path / "out", settings, Stopping(1))
    assert caught.value.code == "archive-differs"
    with pytest.raises(UsageError) as caught:
        run.analyse_archive([str(archive), str(archive / "slide 2")], tmp_path / "new", settings, Stopping(1))
    assert caught.value.code == "archive-overlaps"
    with WorkFile(tmp_path / "out" / "work.sqlite3"), pytest.raises(StoreError) as running:
        run.analyse_archive([str(archive)], tmp_path / "out", settings, Stopping(1))
    assert running.value.code == "analysis-running"


def test_a_worker_with_another_model_is_refused(settings: Config) -> None:
    job = FieldJob.of(settings, Identity.of("other@1.0.0", "00" * 32, "litert-int8"), previews=0, pictures=False)
    with pytest.raises(LeukoError) as caught:
        list(open_engine("processes", 1).run(job, [Piece(0, "x.png")]))
    assert caught.value.code == "worker-differs" and "other@1.0.0" in caught.value.message


def test_a_field_that_kills_its_worker_is_named_and_the_rest_goes_on(
    archive: Path, tmp_path: Path, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killing:
        """Gives up the third piece, as an engine does whose workers died on it."""

        name, isolates = "processes", True

        def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
            from edge.archive.engine import GivenUp

            for piece in pieces:
                if piece.number == 2:
                    yield GivenUp(2, "the process that worked on it died of SIGSEGV")
                else:
                    yield from open_engine("serial", 1).run(job, [piece])

    engine: Engine = Killing()
    record = run.analyse_sample([archive / "slide 2"], "S-1", settings, engine)
    names = [each.get("error", {}).get("code") for each in record.document["fields"]]
    assert names == [None, None, "field-failed"]
    assert "SIGSEGV" in record.document["fields"][2]["error"]["message"]
    assert "field 2.png" in record.document["fields"][2]["error"]["message"]


def test_memory_does_not_grow_with_the_number_of_fields(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with WorkFile(tmp_path / f"{count}.sqlite3") as work:
            tracemalloc.start()
            names = (f"/archive/slide/field {count - number}.png" for number in range(count))
            work.enlist([("slide", names)], {"form": "1"}, ordered=False)
            found = 0
            for group in itertools.groupby(work.pending(), key=lambda piece: piece.number // 100):
                numbers = [piece.number for piece in group[1]]
                work.write([(number, 0, b"x" * 300) for number in numbers], numbers)
                found += len(numbers)
            assert found == count == sum(1 for _ in work.parts())
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert next(work.parts(count - 1)) == b"x" * 300
        return most

    assert peak(8_000) < peak(2_000) + 100_000


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_command_goes_on_after_ctrl_c_and_after_a_power_cut(how: int, archive: Path, tmp_path: Path) -> None:
    words = ["analyze", str(archive), "--archive", "out", "--workers", "2"]
    with subprocess.Popen(
        [*LEUKO, *words], cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, start_new_session=True
    ) as begun:
        end = time.monotonic() + 120
        while not (tmp_path / "out" / "work.sqlite3").exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        os.killpg(begun.pid, how)  # as a terminal does: the workers hear of it too
        _, said = begun.communicate()
    if begun.returncode not in {130, -signal.SIGKILL}:
        assert begun.returncode == 1, said.decode()  # it was done before
        return
    assert b"Traceback" not in said, said.decode()
    done = leuko(tmp_path, *words, "--json")
    assert (done.code, done.document["fields"], done.document["unreadable"]) == (1, 13, 1), done.err


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    draw_files(tmp_path / "f", 1, width=300, height=300)
    assert_refused(leuko(tmp_path, "analyze", "f", "--archive", "o", "--sample", "S"), 2, "archive-options")
    assert_refused(leuko(tmp_path, "analyze", "f", "--engine", "boat"), 2, "unknown-engine", "processes")
    assert_refused(leuko(tmp_path, "analyze", "f", "--workers", "2", "--engine", "serial"), 2, "engine-options")

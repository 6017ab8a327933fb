"""Log records on their way from the lab's domains to the host."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import logs
from xen_lab.inside import records
from xen_lab.running import Part


class Watching:
    """An observer that keeps the lines it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, domain: str, text: str) -> None:
        self.lines.append(text)

    def progress(self, text: str) -> None:
        pass


@contextmanager
def sent(level: int) -> Iterator[list[bytes]]:
    """What is logged in the block as a half's process would send it, a line each."""
    reader, writer = os.pipe()
    names = {name: logging.getLogger(name) for name in records.LOGGERS}
    before = {name: (logger.level, logger.handlers[:]) for name, logger in names.items()}
    lines: list[bytes] = []
    try:
        records.send(writer, level)
        yield lines
    finally:
        for name, logger in names.items():
            logger.level, logger.handlers = before[name]
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            lines += stream.readlines()


def test_a_record_comes_back_with_what_was_bound_and_its_domain() -> None:
    with sent(logging.INFO) as lines:
        logs.logger(domain="guest").info("port bound", port=3, odd={1})
        logs.logger(domain="guest").debug("not asked for")
        logging.getLogger("asyncio").warning("task %s was %s", 7, "lost")
    ours, asyncios = (records.decode(line, "red") for line in lines)
    assert (ours.name, ours.levelno, ours.getMessage()) == ("activations", 20, "port bound")
    assert (vars(ours)["domain"], vars(ours)["port"], vars(ours)["odd"]) == ("guest", 3, "{1}")
    assert (asyncios.name, asyncios.getMessage()) == ("asyncio", "task 7 was lost")
    assert vars(asyncios)["domain"] == "red", "the domain it came from, where none was bound"


def test_an_exception_comes_back_as_its_traceback() -> None:
    with sent(logging.WARNING) as lines:
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logs.logger().exception("it failed")
    record = records.decode(lines[0], "guest")
    assert "RuntimeError: broken" in vars(record)["exception"]
    assert "RuntimeError: broken" in logging.Formatter().format(record)


@pytest.mark.parametrize("pieces", [1, 7, 4096])
def test_a_half_logs_into_the_hosts_loggers_in_whatever_pieces_it_arrives(
    pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    with sent(logging.INFO) as lines:
        logs.logger().info("first")
        logs.logger().warning("second \u2713")
    caplog.clear()
    data = b"".join(lines)
    watching = Watching()
    part = Part("guest", "g1", watching)
    with caplog.at_level(logging.INFO, "activations"):
        for at in range(0, len(data), pieces):
            part.take("log", data[at : at + pieces])
    assert [record.getMessage() for record in caplog.records] == ["first", "second \u2713"]
    assert {vars(record)["domain"] for record in caplog.records} == {"guest"}
    assert watching.lines == []


def test_what_nobody_here_wants_to_hear_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with sent(logging.DEBUG) as lines:
        logs.logger().debug("whispered")
    caplog.clear()
    with caplog.at_level(logging.INFO, "activations"):
        assert records.wanted() == logging.INFO
        Part("guest", "g1", Watching()).take("log", lines[0])
    assert caplog.records == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.text() | json_values.map(json.dumps))
def test_a_line_that_is_no_record_is_shown_as_the_domains(line: str) -> None:
    watching = Watching()
    part = Part("guest", "g1", watching)
    part.take("log", line.encode(errors="replace"))
    part.flush()
    whole = line.encode(errors="replace").decode().split("\n")
    assert watching.lines == whole[: -1 if not whole[-1] else None]


def test_the_log_goes_to_what_stderr_is_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While something takes long a spinner turns there, behind a stream of its own."""
    spinner = io.StringIO()
    with logs.shown("info"):
        monkeypatch.setattr(sys, "stderr", spinner)
        logs.logger().info("meanwhile")
    assert json.loads(spinner.getvalue())["event"] == "meanwhile"


def test_a_shown_record_says_its_domain(capsys: pytest.CaptureFixture[str]) -> None:
    line: dict[str, Any] = {"name": "activations", "levelno": 30, "levelname": "WARNING"}
    text = json.dumps({**line, "msg": "ring full", "bound": {"port": 4}})
    with logs.shown("info"):
        records.log(records.decode(text, "guest"))
    entry = json.loads(capsys.readouterr().err)
    assert (entry["event"], entry["level"]) == ("ring full", "warning")
    assert (entry["domain"], entry["port"]) == ("guest", 4)

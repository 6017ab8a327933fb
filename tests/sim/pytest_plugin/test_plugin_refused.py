"""Marks and fixtures that cannot be: refused before any test runs, with what would be right."""

from __future__ import annotations

import pytest
from support.pytest_project import ran

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@pytest.mark.xen(exlore=1)\ndef test_it(xen_machine): ...", "xen() knows no exlore"),
        ("@pytest.mark.xen\ndef test_it(): ...", "takes `xen_machine`"),
        ("@pytest.mark.xen\ndef test_it(xen_domain): ...", "write `async def`"),
        (
            "@pytest.mark.xen(domains={'guest': client})\ndef test_it(xen_machine): ...",
            "a plain one boots its own",
        ),
        (
            "@pytest.mark.asyncio\nasync def test_it(xen_domain): ...",
            "`xen_domain` is for tests marked xen",
        ),
        (
            "@pytest.fixture\ndef guest(xen_domain): ...\n"
            "@pytest.mark.xen\nasync def test_it(guest): ...",
            "a fixture takes `xen_domain`",
        ),
        (
            "@pytest.fixture\ndef booted(xen_machine): ...\n"
            "@pytest.mark.xen(explore=9)\ndef test_it(booted): ...",
            "takes `xen_machine` itself",
        ),
        (
            "@pytest.fixture\ndef booted(xen_machine): ...\n"
            "@pytest.mark.xen(explore=9)\nasync def test_it(booted): ...",
            "no fixture of its does",
        ),
        (
            "@pytest.fixture\ndef guest(xen_domain): ...\n"
            "@pytest.mark.xen\nasync def test_it(guest, xen_domain): ...",
            "a fixture takes `xen_domain`",
        ),
        ("@pytest.mark.xen(200)\ndef test_it(xen_machine): ...", "by name: xen(explore=200)"),
        ("@pytest.mark.xen(explore=0)\ndef test_it(xen_machine): ...", "explore=0 is not a number"),
        (
            "@pytest.mark.xen(explore=-5)\ndef test_it(xen_machine): ...",
            "explore=-5 is not a number",
        ),
        (
            "@pytest.mark.xen(late=-1)\ndef test_it(xen_machine): ...",
            "late=-1 is not a number",
        ),
        ("@pytest.mark.xen(late='2')\ndef test_it(xen_machine): ...", "give 0 or more"),
        ("@pytest.mark.xen(jobs=0)\ndef test_it(xen_machine): ...", "jobs=0 is not a number of p"),
        ("@pytest.mark.xen(limit=.5)\ndef test_it(xen_machine): ...", "limit=0.5 is not a number"),
        ("@pytest.mark.xen(explore=True)\ndef test_it(xen_machine): ...", "explore=True is not a"),
        (
            "@pytest.mark.xen(domains=[client])\nasync def test_it(xen_domain): ...",
            "{'guest': client}",
        ),
        (
            "@pytest.mark.xen(domains={'dom0': client})\nasync def test_it(xen_domain): ...",
            "what runs beside dom0",
        ),
        (
            "class TestIt(unittest.IsolatedAsyncioTestCase):\n"
            "    @pytest.mark.xen\n    async def test_it(self): ...",
            "unittest runs its coroutine functions",
        ),
        (
            "import hypothesis\n@hypothesis.given(number=hypothesis.strategies.integers())\n"
            "@pytest.mark.xen\nasync def test_it(xen_domain, number): ...",
            "each needs a machine of its own",
        ),
        ("@pytest.mark.xen(seed='7')\ndef test_it(xen_machine): ...", "seed='7' is not a whole"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(
    project: pytest.Pytester, code: str, words: str
) -> None:
    said = ran(project, code)
    assert said.ret == pytest.ExitCode.USAGE_ERROR
    assert words in str(said.stderr)

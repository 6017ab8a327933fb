"""What the site does besides MkDocs: links out of docs/, and a look at what its pages ask for.

Pages name files of the repository by relative links, which work where the repository is shown. On
the site each file that is named so gets a page of its own, below `source/`: examples with their
code, CONTRIBUTING and the changelog as they are.

A reader's browser is to ask nobody but the site for anything: a page that would is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from os.path import relpath
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")
CODE = {".py": "python", ".c": "c", ".h": "c"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page for each file that a page names, and for each that these name in turn."""
    home, docs = _places(config)
    waiting = [Path(page.abs_src_path) for page in files.documentation_pages()]
    seen: set[Path] = set()
    while waiting:
        for target in _outside(waiting.pop(), docs):
            if target not in seen and target.is_relative_to(home):
                seen.add(target)
                waiting += _inside(target)
                where = _where(target, home)
                files.append(File.generated(config, where, content=_page(target, home, docs)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ lead to the pages made above."""
    home, docs = _places(config)
    if page.file.abs_src_path is None or not Path(page.file.abs_src_path).is_relative_to(docs):
        return markdown  # made above, with links that fit
    return _mended(markdown, Path(page.file.abs_src_path), Path(page.file.src_uri), home, docs)


def on_post_build(config: MkDocsConfig) -> None:
    """Raises `PluginError` for a page that has a browser ask another server for anything."""
    site = Path(config.site_dir)
    asked = [
        f"{path.relative_to(site)}: {what}"
        for path in sorted(site.rglob("*"))
        if path.suffix in {".html", ".css", ".svg"}
        for what in _asked(path)
    ]
    if asked:
        raise PluginError("a page asks another server:\n" + "\n".join(asked))


# Links


def _places(config: MkDocsConfig) -> tuple[Path, Path]:
    return Path(config.config_file_path).parent, Path(config.docs_dir)


def _outside(path: Path, docs: Path) -> Iterator[Path]:
    """The files and folders outside of docs/ that a page names."""
    if path.suffix == ".md":
        for link in LINK.findall(path.read_text()):
            target = (path.parent / link).resolve()
            if target.exists() and not target.is_relative_to(docs):
                yield target


def _inside(target: Path) -> list[Path]:
    """The pages that a page leads on to: itself, if it is one; what a folder holds."""
    if target.is_dir():
        return [path for path in [target / "README.md"] if path.exists()]
    return [target]


def _where(target: Path, home: Path) -> str:
    name = f"source/{target.relative_to(home)}"
    return f"{name}/index.md" if target.is_dir() else f"{name.removesuffix('.md')}.md"


def _mended(text: str, path: Path, uri: Path, home: Path, docs: Path) -> str:
    """The text of the file at `path`, as the site's page `uri` shows it."""

    def mend(found: re.Match[str]) -> str:
        target = (path.parent / found[1]).resolve()
        if not target.exists() or not target.is_relative_to(home):
            return found[0]
        to = target.relative_to(docs) if target.is_relative_to(docs) else _where(target, home)
        return relpath(to, uri.parent)

    return LINK.sub(mend, text)


# Pages


def _page(target: Path, home: Path, docs: Path) -> str:
    name = target.relative_to(home)
    if target.is_dir():
        return _folder(target, home, docs)
    text = target.read_text()
    if target.suffix == ".md":
        return _mended(text, target, Path(_where(target, home)), home, docs)
    return f"# {name}\n\n~~~~{CODE.get(target.suffix, '')}\n{text}~~~~\n"


def _folder(target: Path, home: Path, docs: Path) -> str:
    where = Path(_where(target, home))
    readme = target / "README.md"
    text = f"# {target.relative_to(home)}\n"
    if readme.exists():
        text = _mended(readme.read_text(), readme, where, home, docs)
    files = (path for path in sorted(target.iterdir()) if path.suffix in CODE)
    return text + "\n" + "".join(f"- {path.name}\n" for path in files)


# What browsers ask for

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
ELSEWHERE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


class _Fetched(HTMLParser):
    """The addresses that a browser fetches as it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if said.get("rel") not in {"canonical", "next", "prev", "alternate"}:
            self.found.append(said.get(FETCHED.get(tag, "")) or "")


def _asked(path: Path) -> list[str]:
    text = path.read_text()
    if path.suffix != ".html":
        return ELSEWHERE.findall(text)
    reader = _Fetched()
    reader.feed(text)
    return [each for each in reader.found if each.startswith(("http:", "https:", "//"))]

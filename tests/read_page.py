"""A page as a browser reads it, for the tests of every page."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br"}
SELF_CLOSED = {"rect", "path", "line"}  # of SVG; in HTML a slash closes nothing


class Page(HTMLParser):
    """Tags in their order, each closed in its turn, and what stands between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SELF_CLOSED
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.said.append(data)

    @property
    def words(self) -> str:
        """What is read, with what is said of images and buttons."""
        said = [v for _, a in self.tags for k, v in a.items() if k in ("alt", "title", "aria-label") and v]
        return "\n".join([*self.said, *said])

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each tag and the names of its attributes."""
        return [(tag, tuple(a)) for tag, a in self.tags]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each such tag."""
        return [a for name, a in self.tags if name == tag]

    @property
    def policy(self) -> dict[str, str]:
        """The Content-Security-Policy, what each directive allows."""
        (meta,) = (a for a in self.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
        return dict(part.strip().split(" ", 1) for part in meta["content"].split(";"))


def hash_of(content: str) -> str:
    """As a policy names a style or a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def read_page(text: str, *, beside: frozenset[str] = frozenset()) -> Page:
    """A page that is whole, reaches nothing outside but the files ``beside`` it, and runs only its own."""
    page = Page(text)
    assert text.startswith("<!doctype html>\n")
    names = [tag for tag, _ in page.tags]
    assert names.count("html") == names.count("body") == names.count("main") == names.count("h1") == 1
    assert not {"link", "base", "iframe", "object", "embed", "form", "foreignobject", "use"} & set(names)
    assert names[:4] == ["html", "head", "meta", "meta"]  # the encoding, then the policy, then anything else
    assert page.tags[2][1] == {"charset": "utf-8"}

    assert names.count("style") == 1
    (style,) = contents(text, "style")
    scripts = [c for a, c in zip(page.all("script"), contents(text, "script"), strict=True) if not a]
    assert all(a in ({}, {"type": "application/json", "id": "data"}) for a in page.all("script"))
    allowed = {"default-src": "'none'", "img-src": "data:", "style-src": hash_of(style)}
    allowed |= {"script-src": " ".join(map(hash_of, scripts))} if scripts else {}
    assert page.policy == allowed | {"base-uri": "'none'", "form-action": "'none'"}
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("style", "srcdoc", "srcset")], tag

    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
        if "href" in attributes and attributes["href"] not in beside:
            assert attributes["href"][0] == "#" and attributes["href"][1:] in ids
    assert all(a.get("alt") for a in page.all("img"))
    assert {a.get("scope") for a in page.all("th")} <= {"col", "row"}
    assert "@import" not in style and not re.search(r"url\((?!data:image/)", style)
    assert set(re.findall(r"https?://[^\"'\s)<]*", text)) <= {"http://www.w3.org/2000/svg"}  # a name of XML
    return page


def contents(text: str, tag: str) -> list[str]:
    """What stands in each such element, to the byte."""
    return re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)

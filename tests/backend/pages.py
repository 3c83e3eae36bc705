"""Reports as a browser sees them."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img"}
INLINE = {"strong", "span", "a"}


class Page(HTMLParser):
    """What a browser sees; fails where elements are not closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", [], []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.text += "" if tag in INLINE else " "

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += "" if tag in INLINE else " "

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def values(page: Page, *names: str) -> list[str]:
    return [value for name, value in page.attributes if name in names]

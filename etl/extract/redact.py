"""What must not be in a message: keys, passwords of proxies and page tokens, which libraries put into theirs."""

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote, quote_plus, unquote
from urllib.request import getproxies

_HIDDEN = "***"
_SHORTEST = 4
"""A shorter text is in many words; it is hidden only where it stands as in a URL."""
_LONG = re.compile(r"[^\s\"'<>]{200,}")
"""Only tokens are that long."""
_USERINFO = re.compile(r"(?<=//)[^/@\s]+@(?=\S)")


def redact(exc: BaseException, secrets: Iterable[str], token: str | None = None) -> None:
    """Take secrets and tokens out of the texts of an error and of all that it came from. `token` was sent."""
    names = {form: _HIDDEN for secret in (*secrets, *_proxy_secrets()) for form in _forms(secret)}
    names |= {form: _digest(token) for form in _forms(token or "")}
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.args = tuple(_without(names, value) if isinstance(value, str) else value for value in link.args)
        said: Any = getattr(link, "response", None)
        if isinstance(said, dict) and isinstance(error := said.get("Error"), dict):
            error["Message"] = _without(names, str(error.get("Message") or ""))
        link = link.__cause__ or link.__context__


def without_userinfo(url: str) -> str:
    """Return a URL without the user and the password that may be in it."""
    return _USERINFO.sub("", url)


def _without(names: dict[str, str], text: str) -> str:
    for found in sorted(names, key=len, reverse=True):
        text = text.replace(found, names[found])
    text = _USERINFO.sub(f"{_HIDDEN}@", text)
    return _LONG.sub(lambda match: f"{match[0][:40]}… ({len(match[0])} characters, {_digest(match[0])})", text)


def _digest(text: str | None) -> str:
    return f"sha256 {sha256((text or '').encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _forms(text: str) -> Iterator[str]:
    """Yield how a text stands in messages: as it is, in a URL, and as Python shows it."""
    shown = (repr(text)[1:-1], repr(text.encode("utf-8", "surrogatepass"))[2:-1])
    in_url = (coded(text, safe=safe, errors="replace") for coded in (quote, quote_plus) for safe in ("", "/"))
    yield from (form for form in (text, *in_url, *shown) if len(form) >= _SHORTEST)


def _proxy_secrets() -> Iterator[str]:
    """Yield user and password of each proxy, together and apart. They need not be those of a valid URL."""
    for url in getproxies().values():
        userinfo, at, _ = url.partition("//")[2].rpartition("@") if "//" in url else url.rpartition("@")
        if at:
            password = userinfo.partition(":")[2]
            yield from (userinfo, password, unquote(password))
            yield from re.split(r"[/?#]", password)[1:]

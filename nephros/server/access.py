"""Who may use the server: the names under which it is addressed, the sites whose pages use it, and the access token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from nephros.errors import InvalidArgument
from nephros.server.limits import RequestRejected

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)\.?(:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


@dataclass(frozen=True)
class AccessPolicy:
    """Which requests are accepted; by default those that are addressed to this machine by a name of its own."""

    allowed_hosts: tuple[str, ...] = ()
    """Further names, from `parse_allowed_hosts`."""
    token: str | None = None
    """What a request must know; None asks for nothing."""

    def check_site(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise RequestRejected for a request to another host name, as DNS rebinding sends it, or from another site's page."""
        host = _text(headers, b"host")
        name = host_name(host)
        if not is_loopback(name) and name not in {host_name(allowed) for allowed in self.allowed_hosts}:
            raise RequestRejected(
                403, "This server does not accept requests under this host name: allow the name when you start it."
            )
        if b"origin" not in headers or _text(headers, b"sec-fetch-site") == "same-origin":
            return  # behind a proxy, only the browser knows that origin and address are the same
        if _text(headers, b"origin").partition("://")[2] not in (host, *self.allowed_hosts):
            raise RequestRejected(403, "Pages of other sites may not use this server.")

    def check_token(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise RequestRejected for a request with neither the token nor the page's cookie."""
        if self.token is None:
            return
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and self.is_token(credentials.strip()):
            return
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(self.cookie_name)
        except CookieError:
            cookie = None
        if cookie is None or not hmac.compare_digest(cookie.value.encode(), self.cookie_value.encode()):
            raise RequestRejected(
                401,
                "This server asks for its token: open the address that it printed when it started, "
                "or send the header 'Authorization: Bearer TOKEN'.",
            )

    def is_token(self, text: bytes) -> bool:
        """Return whether `text` is the token, in constant time."""
        return hmac.compare_digest(text, (self.token or "").encode())

    @property
    def cookie_name(self) -> str:
        """The name of the page's cookie; it differs between servers, since browsers send cookies to all ports of a host."""
        return f"nephros_{_digest('name', self.token or '')[:8]}"

    @property
    def cookie_value(self) -> str:
        """The value of the page's cookie, from which the token can't be read."""
        return _digest("value", self.token or "")


def parse_allowed_hosts(values: str | Iterable[str]) -> tuple[str, ...]:
    """Return names, each with or without a port, from a list or from text with commas between them.

    Raises:
        InvalidArgument: a value is not a host name.
    """
    values = [values] if isinstance(values, str) else values
    hosts = [part.strip().lower() for value in values for part in value.split(",") if part.strip()]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidArgument("allow_host", host, "a host name or address such as cells.example or 192.168.1.5")
    return tuple(dict.fromkeys(hosts))


def parse_root_path(path: str) -> str:
    """Return a path prefix with a leading slash and no trailing one; ``""`` for ``"/"``.

    Raises:
        InvalidArgument: the prefix is not a plain path.
    """
    prefix = path.rstrip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise InvalidArgument("root_path", path, "a path such as /nephros, of letters, digits, '-', '_', '~' and '.'")
    return prefix


def check_token_text(token: str) -> str:
    """Return the token; raise InvalidArgument if a header can't carry it."""
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidArgument("token", token and "not printable", "ASCII characters without spaces")
    return token


def host_name(host: str) -> str:
    """Return the name in a Host header or an allowed host, without port and final dot; empty if it is malformed."""
    match = _HOST.fullmatch(host.lower())
    return match["name"] if match else ""


def is_loopback(name: str) -> bool:
    """Return whether a name or address always means the machine itself: localhost, 127.0.0.0/8, ::1."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def split_token(query: bytes) -> tuple[bytes | None, str]:
    """Return the token in a query string, and the query string without it."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    tokens = [value for name, value in pairs if name == "token"]
    return tokens[-1].encode() if tokens else None, urlencode([pair for pair in pairs if pair[0] != "token"])


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1").lower()


def _digest(purpose: str, token: str) -> str:
    return hashlib.sha256(f"nephros cookie {purpose} {token}".encode()).hexdigest()

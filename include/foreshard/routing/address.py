"""Addresses: the public part of a partition's, without its secrets, and the sidecar's. Pure."""

from __future__ import annotations

SECRET_OPTIONS = frozenset({"tlscertificatekeyfilepassword", "ssl_pem_passphrase", "authmechanismproperties", "proxypassword"})


def public_uri(uri: str) -> str:
    """Return ``uri`` without user name, password and secret options. Clients use their own credentials."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri.rpartition("@")[2]
    authority, slash, path = rest.partition("/")
    if not slash and "?" in authority:
        authority, _, query = authority.partition("?")
        path = "?" + query
    address = f"{scheme}://{authority.rpartition('@')[2]}{slash}"
    database, question, query = path.partition("?")
    if not question:
        return address + database
    shown = [option for option in query.split("&") if option.partition("=")[0].lower() not in SECRET_OPTIONS]
    return address + database + ("?" + "&".join(shown) if any(shown) else "")


def has_credentials(uri: str) -> bool:
    """Return whether ``uri`` has a user name, a password or a session token."""
    authority, _, query = uri.partition("://")[2].partition("?")
    options = {name.lower(): value for name, _, value in (option.partition("=") for option in query.split("&"))}
    has_token = "session_token" in options.pop("authmechanismproperties", "").lower()
    return has_token or "@" in authority.partition("/")[0] or not SECRET_OPTIONS.isdisjoint(options)


def http_address(host: str, port: int, *, secure: bool = False) -> str:
    """Return the URL of a host and port. An IPv6 address is written in brackets."""
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

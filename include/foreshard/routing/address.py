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


def http_address(host: str, port: int) -> str:
    """Return the URL of a host and port. An IPv6 address is written in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""Call the staff in the clinic's way: a message to a server on the local network. Carries nothing about the patient.

The signal on the screen and its sound are the panel's; they come in any case, since a network can fail.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from datetime import datetime
from urllib.parse import urlsplit

from ..errors import InputError
from .settings import PatientSettings

SECONDS = 4.0
"""Time that the server has to answer."""


def check_address(url: str, look_up: bool = True) -> str:
    """Return an address that calls may be sent to, without spaces around it; "" for none.

    Args:
        url: http or https; its host must be on this computer or the local network.
        look_up: whether a host's name is looked up, which can take seconds; else only its form is checked.

    Raises:
        InputError: for anything else.
    """
    url = url.strip()
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise InputError(f"'{url}' is no address ({error}); an example is http://192.168.1.20:8080/calls.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"'{url}' is no address of a web server; an example is http://192.168.1.20:8080/calls.")
    if not look_up and not re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]+", parts.hostname):
        return url
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise InputError(f"The host '{parts.hostname}' is not known here ({error}); give its IP address.") from error
    if not found or not all(map(_is_local, found)):
        raise InputError(f"'{parts.hostname}' is not on the local network, and calls go nowhere else.")
    return url


def _is_local(address: str) -> bool:
    """Return whether an address belongs to this computer or to a private network (RFC 1918, RFC 4193, link-local)."""
    number = ipaddress.ip_address(address.partition("%")[0])
    return (number.is_loopback or number.is_private or number.is_link_local) and not number.is_unspecified


def call_staff(settings: PatientSettings, now: datetime | None = None) -> bool:
    """Send a call as JSON `{"event": "help", "place": …, "time": …}`; return whether the server took it.

    Args:
        settings: the clinic's choices: `call_url` and `place`.
        now: time of the call, with its zone; the present by default.
    """
    import requests

    try:
        url = check_address(settings.call_url)
        if not url:
            return False
        now = now or datetime.now().astimezone()
        call = {"event": "help", "place": settings.place, "time": now.isoformat(timespec="seconds")}
        with requests.Session() as session:
            session.trust_env = False  # no proxy: the server is near
            with session.post(url, json=call, timeout=SECONDS, allow_redirects=False, stream=True) as answer:
                return answer.status_code in range(200, 300)
    except (InputError, OSError, requests.RequestException) as error:
        logging.warning("MedFM: the call of the staff was not taken (%s)", type(error).__name__)
        return False

"""Let a Python process reach nothing but this machine.

`tests/conftest.py` puts this folder first in `PYTHONPATH` and sets `KIE_BLOCK_NETWORK`:
every Python that a test starts, kernels too, imports the file before anything else.
It guards Python's own sockets; what a C library opens by itself is not seen.
"""

import ipaddress
import os
import socket


def is_local(host: str | bytes | None) -> bool:
    """Tell whether a name or address means this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not host or host in ("localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name, which would have to be looked up
        return False
    return address.is_loopback or address.is_unspecified


def refuse(host: object) -> None:
    """Raise the error that stands for a network which is not there."""
    raise OSError(f"network blocked during tests: {host}")


def activate() -> None:
    """Guard the sockets of this process; again changes nothing."""
    if getattr(socket, "kie_guarded", False):
        return
    socket.kie_guarded = True
    # create_connection and TLS end in connect; sendto needs no connection.
    for method in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, method, _guarded_method(method))
    for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, function, _guarded_lookup(getattr(socket, function)))


def _guarded_method(name):
    original = getattr(socket.socket, name)

    def guarded(self, *args):
        # The address is the last argument of each of the three.
        if self.family in (socket.AF_INET, socket.AF_INET6):
            if not is_local(args[-1][0]):
                refuse(args[-1][0])
        elif self.family != socket.AF_UNIX:
            refuse(args[-1])
        return original(self, *args)

    return guarded


def _guarded_lookup(original):
    def guarded(host, *args, **kwargs):
        if not is_local(host):
            refuse(host if isinstance(host, str) else repr(host))
        return original(host, *args, **kwargs)

    return guarded


if os.environ.get("KIE_BLOCK_NETWORK") == "1":
    activate()

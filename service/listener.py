"""The listening socket, and how it goes without losing anyone.

A listener that is closed resets what lies in its queue: connections that the kernel has completed,
whose callers may have sent a request already. However quickly the queue is emptied before, on a
busy service another one gets in. So first the kernel is told to begin no handshake any more; then
the queue is emptied, and only then the socket is closed.
"""

import contextlib
import ctypes
import socket
import sys

SO_ATTACH_FILTER = 26
"""Of Linux; Python's socket module has no name for it."""

HANDSHAKE_SECONDS = 0.2
"""How long a handshake that has begun may take to complete."""

_LOAD_TCP_FLAGS = (0x30, 0, 0, 13)
_IF_SYN = (0x45, 0, 1, 0x02)
_DROP = (0x06, 0, 0, 0)
_ACCEPT = (0x06, 0, 0, 0xFFFFFFFF)


class CannotListen(Exception):
    """An address that cannot be bound; the message names it and the reason."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {error.strerror or error}")


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(host, port, error) from error


def begin_no_handshakes(listener: socket.socket) -> None:
    """Drop the first packet of every connection from now on; handshakes under way complete.

    Callers see a connection that is slow to open and then refused. Where the system has no such
    filter nothing happens, and a connection made in the last microseconds may be reset.
    """
    if sys.platform != "linux":
        return
    program = [_LOAD_TCP_FLAGS, _IF_SYN, _DROP, _ACCEPT]
    instructions = (_Instruction * len(program))(*(_Instruction(*each) for each in program))
    described = _Program(len(program), ctypes.cast(instructions, ctypes.c_void_p))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(described))


def accept_all(listener: socket.socket) -> list[socket.socket]:
    """Connections that the kernel has completed and nobody has taken."""
    waiting: list[socket.socket] = []
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            waiting.append(connection)
    return waiting


class _Instruction(ctypes.Structure):
    """`struct sock_filter`."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jump_if_true", ctypes.c_uint8),
        ("jump_if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.c_void_p))

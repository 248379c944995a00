"""Reads answers, for the clients of the bench."""


def read_answer(connection, status=200):
    """Read one answer with a Content-Length whole from a blocking connection.

    ValueError when it has another status.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection, 65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 %d " % status):
        raise ValueError("answered with " + head.split(b"\r\n")[0].decode("latin-1"))
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        left -= len(_some(connection, left))


def _some(connection, most):
    data = connection.recv(most)
    if not data:
        raise ValueError("the connection ended early")
    return data

"""A client that opens a TLS connection for every request, in a process of its own.

    handshakes.py PORT COUNT full|resumed < request bytes

Prints one JSON line: {"done": answers with 200, "resumed": ..., "cipher": [...], "errors": [...]}.
"""

import json
import socket
import ssl
import sys
import threading

THREADS = 4


def main():
    port, count, resume = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resumed"
    request = sys.stdin.buffer.read()
    context = ssl.create_default_context()
    # The certificate is checked before the run; here its check would only slow the client.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    result = {"done": 0, "resumed": 0, "cipher": [], "errors": []}
    lock = threading.Lock()

    def work(amount):
        session, done, resumed, ciphers, errors = None, 0, 0, set(), []
        for number in range(amount + resume):
            try:
                reused, cipher, session = once(context, port, request, session if resume else None)
            except (OSError, ValueError) as error:
                errors.append(str(error))
                session = None
                continue
            # The first of each thread fetches the first ticket and does not count.
            if number or not resume:
                done += 1
                resumed += reused
            ciphers.add(cipher)
        with lock:
            result["done"] += done
            result["resumed"] += resumed
            result["cipher"] = sorted({*result["cipher"], *ciphers})
            result["errors"] += errors[:3]

    threads = [threading.Thread(target=work, args=(count // THREADS,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(result))


def once(context, port, request, session):
    """One connection, one request: (was the session resumed, cipher, its new session)."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as secured:
        secured.sendall(request)
        read_answer(secured)
        # The ticket has come by now: before the answer.
        return secured.session_reused, secured.cipher()[0], secured.session


def read_answer(connection):
    """Read one answer with a Content-Length whole; ValueError when it is not 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError("answered with " + head.split(b"\r\n")[0].decode("latin-1"))
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        left -= len(more(connection))


def more(connection):
    """The next bytes."""
    data = connection.recv(65536)
    if not data:
        raise ValueError("the connection ended early")
    return data


if __name__ == "__main__":
    main()

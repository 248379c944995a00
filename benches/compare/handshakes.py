"""A client that opens a TLS connection for every request, in processes of its own.

    handshakes.py PORT COUNT full|resumed < request bytes

Many connections are under way at once, so that the proxy has work whenever it looks, as under a
load generator: a client that waits for each answer would mostly measure what being woken up costs.

Prints one JSON line: {"done": answers with 200, "resumed": ..., "cipher": [...], "errors": [...]}.
"""

import concurrent.futures
import json
import selectors
import socket
import ssl
import sys

# Processes, not threads: Python runs one thread at a time.
PROCESSES = 2
# Connections of each process that are under way at once.
SLOTS = 32
# Seconds without any event after which the proxy is taken for dead.
LIMIT = 10
# Threads of `idle.py`.
THREADS = 4


def main():
    port, count, resume = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resumed"
    request = sys.stdin.buffer.read()
    with concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
        running = [
            pool.submit(work, port, share, resume, request) for share in split(count, PROCESSES)
        ]
        results = [one.result() for one in running]
    print(
        json.dumps(
            {
                "done": sum(result.done for result in results),
                "resumed": sum(result.resumed for result in results),
                "cipher": sorted(set().union(*(result.ciphers for result in results))),
                "errors": sum((result.errors[:3] for result in results), []),
            }
        )
    )


def split(count, parts):
    """`count` in `parts` nearly equal shares."""
    return [count // parts + (number < count % parts) for number in range(parts)]


class Result:
    """What came of the connections of one process."""

    def __init__(self):
        self.done = 0
        self.resumed = 0
        self.ciphers = set()
        self.errors = []


def work(port, count, resume, request):
    """Make `count` connections, `SLOTS` at a time."""
    context = ssl.create_default_context()
    # The certificate is checked before the run; here its check would only slow the client.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    result = Result()
    selector = selectors.DefaultSelector()
    slots = [slot(context, port, share, resume, request, result) for share in split(count, SLOTS)]
    waiting = sum(advance(selector, one) for one in slots)
    while waiting:
        events = selector.select(LIMIT)
        if not events:
            result.errors.insert(0, f"no answer for {LIMIT} s")
            break
        for key, _ in events:
            selector.unregister(key.fileobj)
            waiting -= not advance(selector, key.data)
    return result


def advance(selector, one):
    """Run a slot until it waits again; False when it is at its end."""
    try:
        plain, event = next(one)
    except StopIteration:
        return False
    selector.register(plain, event, one)
    return True


def slot(context, port, count, resume, request, result):
    """One connection after the other; yields what it waits for."""
    session = None
    # The first of each slot fetches the first ticket and does not count.
    for number in range(count + resume if count else 0):
        try:
            reused, cipher, session = yield from once(
                context, port, request, session if resume else None
            )
        except (OSError, ValueError) as error:
            result.errors.append(str(error))
            session = None
            continue
        if number or not resume:
            result.done += 1
            result.resumed += reused
        result.ciphers.add(cipher)


def once(context, port, request, session):
    """One connection, one request: (was the session resumed, cipher, its new session)."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    with context.wrap_socket(
        plain, server_hostname="localhost", session=session, do_handshake_on_connect=False
    ) as secured:
        yield from until_done(secured, secured.do_handshake)
        yield from until_done(secured, secured.send, request)
        answer = reading()
        needs = next(answer)
        while needs:
            data = yield from until_done(secured, secured.recv, needs)
            if not data:
                raise ValueError("the connection ended early")
            needs = answer.send(data)
        # The ticket has come by now: before the answer.
        return secured.session_reused, secured.cipher()[0], secured.session


def until_done(secured, operation, *arguments):
    """Repeat an operation until it need not wait any more; yields what it waits for."""
    while True:
        try:
            return operation(*arguments)
        except ssl.SSLWantReadError:
            yield secured, selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            yield secured, selectors.EVENT_WRITE


def reading():
    """Takes an answer with a Content-Length piece by piece; yields how much to read, 0 at its end.

    ValueError when it is not 200.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += yield 65536
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError("answered with " + head.split(b"\r\n")[0].decode("latin-1"))
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        left -= len((yield left))
    yield 0


def read_answer(connection):
    """Read one answer whole from a blocking connection; ValueError when it is not 200."""
    answer = reading()
    needs = next(answer)
    while needs:
        data = connection.recv(needs)
        if not data:
            raise ValueError("the connection ended early")
        needs = answer.send(data)


if __name__ == "__main__":
    main()

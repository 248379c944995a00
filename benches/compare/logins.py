"""A client that sends many logins at once, each over a connection of its own that is open before.

    logins.py PORT COUNT GATE < request bytes

Prints "ready", waits for a byte from the descriptor GATE, sends all, and prints one JSON line: how
often each status was answered, and the seconds until the last answer.
"""

import collections
import json
import os
import selectors
import socket
import ssl
import sys
import time


def main():
    port, count, gate = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    request = sys.stdin.buffer.read()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    held = []
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        held.append(context.wrap_socket(plain, server_hostname="localhost"))
    print("ready", flush=True)
    os.read(gate, 1)
    begun = time.monotonic()
    statuses = collections.Counter()
    with selectors.DefaultSelector() as selector:
        for secured in held:
            secured.sendall(request)
            secured.setblocking(False)
            selector.register(secured, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() - begun < 120:
            for key, _ in selector.select(1):
                status = first_line(key.fileobj)
                if status:
                    statuses[status] += 1
                    selector.unregister(key.fileobj)
    taken = time.monotonic() - begun
    statuses["none"] = count - sum(statuses.values())
    print(json.dumps({"statuses": dict(+statuses), "seconds": taken}))


def first_line(connection):
    """The status of the answer, "" while there is none."""
    try:
        data = connection.recv(65536)
    except ssl.SSLWantReadError:
        return ""
    except OSError as error:
        return type(error).__name__
    return data[9:12].decode("latin-1") or "closed"


if __name__ == "__main__":
    main()

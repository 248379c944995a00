"""A client that opens many TLS connections, asks once on each, and then keeps them open.

    idle.py PORT COUNT < request bytes

Prints one JSON line when all are open and idle, and ends when it gets SIGTERM.
"""

import json
import resource
import socket
import ssl
import sys
import threading
import time

from answer import read_answer

# That open connections at once.
THREADS = 4


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    request = sys.stdin.buffer.read()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    held, errors = [], []

    def work(amount):
        for _ in range(amount):
            try:
                plain = socket.create_connection(("127.0.0.1", port), timeout=10)
                secured = context.wrap_socket(plain, server_hostname="localhost")
                secured.sendall(request)
                read_answer(secured)
                held.append(secured)
            except (OSError, ValueError) as error:
                errors.append(str(error))
                return

    shares = [count // THREADS + (number < count % THREADS) for number in range(THREADS)]
    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(1)
    print(json.dumps({"open": sum(alive(one) for one in held), "errors": errors[:3]}), flush=True)
    time.sleep(600)


def alive(connection):
    """Whether the proxy still keeps the connection."""
    connection.setblocking(False)
    try:
        # Late tickets may be there; the end of the connection would be b"".
        return connection.recv(1) != b""
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    main()

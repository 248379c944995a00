"""Cold start: milliseconds from starting the program to its first answer."""

import socket
import ssl
import time

import measures
from answer import read_answer
from stand import Failure

LIMIT = 20


def start(bench, contender):
    """One round: stop the proxy, start it, and ask until it answers."""
    site = bench.site
    sent = measures.request(bench, contender)
    site.stand.stop(contender.child)
    begun = time.perf_counter()
    contender.child = site.stand.start(contender.name, contender.argv)
    while not _answers(site, contender.port, sent):
        if time.perf_counter() - begun > LIMIT or contender.child.poll() is not None:
            raise Failure(f"{contender.name} did not start:\n{site.stand.tail(contender.name)}")
        time.sleep(0.0005)
    return measures.Sample({"start": (time.perf_counter() - begun) * 1000}, 1)


def _answers(site, port, sent):
    try:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with site.tls.wrap_socket(plain, server_hostname="localhost") as secured:
            secured.sendall(sent)
            read_answer(secured)
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, ssl.SSLError, ValueError):
        # It listens already and is not ready to answer.
        return False

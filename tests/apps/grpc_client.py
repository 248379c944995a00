"""A gRPC client that goes through the gateway: every kind of call, errors in trailers, a call
without a session.

Usage: grpc_client.py HOST:PORT CERTIFICATE TOKEN USER
"""

import json
import sys
import threading

import grpc

target, certificate, token, user = sys.argv[1:]
LIMIT = 20

with open(certificate, "rb") as file:
    credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
channel = grpc.secure_channel(target, credentials)

say = channel.unary_unary("/test.Echo/Say")
count = channel.unary_stream("/test.Echo/Count")
collect = channel.stream_unary("/test.Echo/Collect")
chat = channel.stream_stream("/test.Echo/Chat")
fail = channel.unary_unary("/test.Echo/Fail")
who = channel.unary_unary("/test.Echo/Who")

for metadata in [
    [("authorization", f"Bearer {token}")],
    [("cookie", f"__Host-portcullis={token}")],
]:
    options = {"metadata": metadata, "timeout": LIMIT}

    answer, call = say.with_call(b"hello", **options)
    assert answer == b"hello", answer
    assert ("x-said", "5") in call.trailing_metadata(), call.trailing_metadata()

    big = bytes(3 << 20)
    assert say(big, **options) == big

    assert list(count(b"100", **options)) == [str(n).encode() for n in range(100)]
    assert list(count(b"0", **options)) == []
    assert collect(iter([b"a", b"b", b"c"]), **options) == b"abc"

    # Each message comes back before the next is sent: nothing is held back on the way.
    come = threading.Semaphore(1)

    def messages():
        for number in range(5):
            assert come.acquire(timeout=LIMIT), "a message was held back"
            yield str(number).encode()

    for number, message in enumerate(chat(messages(), **options)):
        assert message == str(number).encode(), message
        come.release()

    try:
        fail(b"why", **options)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "no: why", error
        assert ("x-reason", "as asked") in error.trailing_metadata(), error
    else:
        raise AssertionError("an error was lost")

    spoofed = [*metadata, ("x-auth-user", "evil"), ("x_auth_user", "evil")]
    seen = json.loads(who(b"", metadata=spoofed, timeout=LIMIT))
    assert seen["x-auth-user"] == [user], seen
    assert "x_auth_user" not in seen, seen
    assert token not in json.dumps(seen), "the token reached the application"

try:
    say(b"hello", timeout=LIMIT)
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
else:
    raise AssertionError("a call without session passed")

print("ok")

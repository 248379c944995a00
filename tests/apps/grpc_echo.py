"""A gRPC server on plain HTTP/2. Messages are bytes as they are, without a schema.

Say sends the message back, Count streams as many messages as asked for, Fail ends with a status in
the trailers, Who answers with the identity headers.
"""

import json
import sys
from concurrent import futures

import grpc


def say(message, context):
    context.set_trailing_metadata([("x-said", str(len(message)))])
    return message


def count(message, context):
    for number in range(int(message)):
        yield str(number).encode()


def collect(messages, context):
    return b"".join(messages)


def chat(messages, context):
    yield from messages


def fail(message, context):
    context.set_trailing_metadata([("x-reason", "as asked")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: " + message.decode())


def who(message, context):
    seen = {}
    for key, value in context.invocation_metadata():
        seen.setdefault(key, []).append(value if isinstance(value, str) else value.decode())
    return json.dumps(seen).encode()


handlers = {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Who": grpc.unary_unary_rpc_method_handler(who),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
if server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}") == 0:
    sys.exit("cannot listen")
server.start()
server.wait_for_termination()

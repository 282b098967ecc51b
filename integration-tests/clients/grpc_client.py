"""A gRPC server, and a client that calls it through the router in plain HTTP/2 and over TLS: one call, a stream, and an error in trailers."""

import sys
import time
from concurrent import futures

import grpc

NODE, PORT, HTTP, HTTPS, AUTHORITY = sys.argv[1:]
SOON = 20
HOST = "greeter.localhost"


def hello(request, context):
    """Greets; of nobody it says in its trailers that there is none."""
    if request == b"nobody":
        context.abort(grpc.StatusCode.NOT_FOUND, "nobody")
    return b"hello " + request


def parts(request, context):
    """Answers a part for each letter."""
    for letter in request:
        yield bytes([letter])


METHODS = {
    "Hello": grpc.unary_unary_rpc_method_handler(hello),
    "Parts": grpc.unary_stream_rpc_method_handler(parts),
}


def ask(channel):
    """Asks all that there is."""
    call = channel.unary_unary("/skiff.Greeter/Hello")
    ends = time.monotonic() + SOON
    while True:
        try:
            greeting = call(b"world", timeout=SOON)
            break
        except grpc.RpcError as err:
            # Until the router knows the Route.
            assert time.monotonic() < ends, err
            time.sleep(0.05)
    got = list(channel.unary_stream("/skiff.Greeter/Parts")(b"abc", timeout=SOON))
    try:
        call(b"nobody", timeout=SOON)
        raise AssertionError("it was found")
    except grpc.RpcError as err:
        refused = f"{err.code().name} {err.details()}"
    return f"{greeting.decode()}, {len(got)} parts, {refused}"


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("skiff.Greeter", METHODS)])
assert server.add_insecure_port(f"{NODE}:{PORT}") == int(PORT)
server.start()
plain = grpc.insecure_channel(f"127.0.0.1:{HTTP}", options=[("grpc.default_authority", HOST)])
print("plain:", ask(plain))
with open(AUTHORITY, "rb") as file:
    trust = grpc.ssl_channel_credentials(file.read())
options = [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST)]
print("TLS:", ask(grpc.secure_channel(f"127.0.0.1:{HTTPS}", trust, options=options)))
server.stop(0)

"""A WebSocket server: says who it is talking to, then sends every message back."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    await connection.send(f"hello {connection.request.headers.get('X-Auth-User')}")
    async for message in connection:
        await connection.send(message)


async def main(port):
    async with serve(echo, "127.0.0.1", port, max_size=8 << 20):
        await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))

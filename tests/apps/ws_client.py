"""A WebSocket client: text, binary, a large message, a ping and a clean end.

Usage: ws_client.py URL CERTIFICATE COOKIE ORIGIN USER
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(url, certificate, cookie, origin, user):
    context = ssl.create_default_context(cafile=certificate)
    async with connect(
        url,
        ssl=context,
        origin=origin,
        proxy=None,
        max_size=8 << 20,
        additional_headers={"Cookie": cookie, "X-Auth-User": "evil"},
    ) as connection:
        assert await connection.recv() == f"hello {user}"
        for message in ["text", "ä€😀", b"\x00\xff", "", "x" * (4 << 20)]:
            await connection.send(message)
            assert await connection.recv() == message
        await asyncio.wait_for(await connection.ping(), 10)
        await connection.close(1000)
        assert connection.close_code == 1000, connection.close_code
    print("ok")


asyncio.run(main(*sys.argv[1:]))

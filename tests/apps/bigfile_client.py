"""Sends and fetches a file of SIZE bytes through the gateway, by HTTP/1.1.

Usage: bigfile_client.py upload|download HOST PORT CERTIFICATE COOKIE SIZE
"""

import hashlib
import http.client
import json
import ssl
import sys

direction, host, port, certificate, cookie, size = sys.argv[1:]
size = int(size)
BLOCK = bytes(n % 251 for n in range(251 * 1024))
HEADERS = {"Cookie": cookie}


def blocks():
    left = size
    while left > 0:
        yield BLOCK[:left]
        left -= min(left, len(BLOCK))


def main():
    digest = hashlib.sha256()
    for block in blocks():
        digest.update(block)
    want = digest.hexdigest()

    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=120)
    if direction == "upload":
        headers = {**HEADERS, "Content-Length": str(size)}
        connection.request("PUT", "/files/big", body=blocks(), headers=headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, (response.status, body)
        answer = json.loads(body)
        assert answer == {"size": size, "sha256": want}, answer
    else:
        connection.request("GET", f"/files/{size}", headers=HEADERS)
        response = connection.getresponse()
        assert response.status == 200, response.status
        digest = hashlib.sha256()
        while part := response.read(1 << 18):
            digest.update(part)
        assert digest.hexdigest() == want, "another file came"
    print("ok")


main()

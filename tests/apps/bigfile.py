"""Takes and gives files of any size without keeping them.

GET /N gives N bytes, PUT answers with how many came and their SHA-256.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A block that does not divide by any power of two, so that lost or doubled parts show.
BLOCK = bytes(n % 251 for n in range(251 * 1024))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        left = int(self.path.rsplit("/", 1)[1])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left > 0:
            self.wfile.write(BLOCK[:left])
            left -= min(left, len(BLOCK))

    def do_PUT(self):
        digest = hashlib.sha256()
        size = 0
        for part in self.parts():
            digest.update(part)
            size += len(part)
        answer = json.dumps({"size": size, "sha256": digest.hexdigest()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def parts(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size:
                    yield self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            part = self.rfile.read(min(left, 1 << 18))
            if not part:
                raise ConnectionError("the body ended early")
            left -= len(part)
            yield part


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

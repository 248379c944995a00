"""A stream of server-sent events, one for each line that the test posts.

GET /events streams, POST /say makes an event of its body. Nothing is sent ahead or later, so a
proxy that waits for more before it hands on what it has makes the test hang.
"""

import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

listeners = []
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        events = queue.Queue()
        with lock:
            listeners.append(events)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.event(f"user {self.headers.get('X-Auth-User')}")
        while True:
            self.event(events.get())

    def event(self, data):
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with lock:
            for events in listeners:
                events.put(body)
        self.send_response(204)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

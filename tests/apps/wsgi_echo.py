"""A WSGI application: answers with the request as a WSGI application sees it.

In `environ` the header names X-Auth-User and X_Auth_User are one and the same key, which is why
the gateway must let neither through from a client.
"""

import json


def app(environ, start_response):
    seen = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    seen["REQUEST_METHOD"] = environ["REQUEST_METHOD"]
    seen["PATH_INFO"] = environ["PATH_INFO"]
    seen["RAW_URI"] = environ.get("RAW_URI")
    seen["QUERY_STRING"] = environ["QUERY_STRING"]
    seen["body"] = environ["wsgi.input"].read().decode("utf-8", "replace")
    answer = json.dumps(seen).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))],
    )
    return [answer]

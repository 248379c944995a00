"""Leads schemathesis to places that no generated value names: a session of one's own, a password.

Run by tests/it/openapi.rs. Each request comes from an address of its own (the gateway under test believes
`X-Forwarded-For`), so that the delays after failed logins do not hide everything else.
"""

import itertools
import os

import requests
import schemathesis

ORIGIN = os.environ["PORTCULLIS_ORIGIN"]
PASSWORD = os.environ["PORTCULLIS_PASSWORD"]
addresses = (f"10.{a}.{b}.{c}" for a, b, c in itertools.product(range(256), repeat=3))
http = requests.Session()


def sign_in():
    """A fresh session of alice; its token and its id."""
    http.cookies.clear()
    answer = http.post(
        f"{ORIGIN}/auth/session",
        json={"username": "alice", "password": PASSWORD},
        headers={"X-Forwarded-For": next(addresses)},
    )
    answer.raise_for_status()
    return answer.cookies["__Host-portcullis"], answer.json()["id"]


# A session is used until a request may have ended or changed it.
kept = []


@schemathesis.auth(refresh_interval=None)
class Alice:
    def get(self, case, context):
        if not kept:
            kept.append(sign_in())
        return kept[0]

    def set(self, case, data, context):
        token, own = data
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {token}"
        if valid(case) and "id" in case.path_parameters and case.operation.path.startswith("/api"):
            case.path_parameters["id"] = own


turn = itertools.count()


def valid(case):
    """Whether what was generated is what the schema asks for, by the method that it names."""
    meta = case.meta
    usual = case.method.upper() == case.operation.method.upper()
    return usual and meta is not None and meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers = case.headers or {}
    case.headers["X-Forwarded-For"] = next(addresses)
    body = case.body
    if not valid(case) or not isinstance(body, dict) or next(turn) % 2:
        return
    own = {"username": "alice", "password": PASSWORD}
    if "username" in body:
        body.update(own)
    elif isinstance(body.get("template"), dict) and "username" in body["template"]:
        body["template"].update(own)
    elif "claim" in body:
        body["claim"] = ["group/eng", "group/staff", "user/u-alice"][next(turn) % 3]


@schemathesis.hook
def after_call(context, case, response):
    if case.method.upper() not in ("GET", "HEAD", "PUT", "OPTIONS") and "get-" not in case.path:
        kept.clear()

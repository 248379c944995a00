"""Drives nuvla-api as its users do. Certificates: REQUESTS_CA_BUNDLE."""

import requests

from lines import serve
from nuvla.api import Api
from nuvla.api.models import CimiResource

api = None


def open_(endpoint, options=None):
    """A new client: an empty cookie jar. The options are those of `Api`."""
    global api
    api = Api(endpoint, **{"persist_cookie": False} | (options or {}))


def answered(response):
    """A login answers with the bare response."""
    try:
        body = response.json()
    except requests.exceptions.JSONDecodeError:
        body = response.text
    return {"status": response.status_code, "headers": dict(response.headers.lower_items()), "body": body}


def request(method, path, headers=None, body=None):
    """Any request by the client's own session, with its cookies: for the app behind."""
    return answered(
        api.session.request(
            method, api.endpoint + path, headers=headers, data=body, allow_redirects=False
        )
    )


def cookies():
    return {cookie.name: cookie.value for cookie in api.session.cookies}


def cookie(name, value):
    """As a user does who was given a cookie's value."""
    api.session.cookies.set(name, value)


def operation(resource, name, data=None):
    return api.operation(CimiResource({"id": resource}), name, data).data


def entry_point():
    found = api.cloud_entry_point
    return {"base-uri": found.base_uri, "collections": found.collections}


def search(kind, more=None):
    found = api.search(kind, **(more or {}))
    return {"count": found.count, "ids": [one.id for one in found.resources], "data": found.data}


def describe(error):
    response = getattr(error, "response", None)
    return None if response is None else answered(response)


serve(
    {
        "open": open_,
        "login_password": lambda name, word: answered(api.login_password(name, word)),
        "login_apikey": lambda key, secret: answered(api.login_apikey(key, secret)),
        "login": lambda template: answered(api.login(template)),
        "current_session": lambda: api.current_session(),
        "is_authenticated": lambda: api.is_authenticated(),
        "logout": lambda: api.logout(),
        "search": search,
        "get": lambda resource: api.get(resource).data,
        "delete": lambda resource: api.delete(resource).data,
        "add": lambda kind, data: api.add(kind, data).data,
        "operation": operation,
        "entry_point": entry_point,
        "request": request,
        "cookies": cookies,
        "cookie": cookie,
    },
    describe,
)

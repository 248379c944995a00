"""Drives KalturaApiClient, which speaks XML, as its users do. Certificates: REQUESTS_CA_BUNDLE.
That library is under the AGPL: it is for tests, in this process, and never shipped."""

import hashlib

from lines import serve
from KalturaClient import KalturaClient, KalturaConfiguration
from KalturaClient.Base import KalturaObjectBase
from KalturaClient.exceptions import KalturaClientException, KalturaException

client = None


def open_(url):
    global client
    config = KalturaConfiguration(url)
    config.requestTimeout = 20
    client = KalturaClient(config)


def plain(value):
    """What the library made of an answer, as JSON; what the answer left out is left out."""
    if isinstance(value, KalturaObjectBase):
        fields = {k: plain(v) for k, v in vars(value).items() if v is not NotImplemented}
        return {"objectType": type(value).__name__} | fields
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (KalturaException, KalturaClientException)):
        return {"error": {"code": value.code, "message": str(value.message)}}
    # An enumeration of the library, such as the type of a session.
    return plain(value.value) if hasattr(value, "value") else value


def call(service, action, *args):
    """`client.<service>.<action>(args)`; null leaves an argument to the library."""
    args = [NotImplemented if arg is None else arg for arg in args]
    return getattr(getattr(client, service), action)(*args)


def multi(calls):
    """One request for all; an argument `{"ref": "1:result"}` refers to an earlier result."""
    client.startMultiRequest()
    for service, action, *args in calls:
        call(service, action, *["{%s}" % a["ref"] if isinstance(a, dict) else a for a in args])
    return [plain(one) for one in client.doMultiRequest()]


def seal(secret, user, kind, partner, expiry, privileges, version=2):
    """A session made by the client alone, from the partner's secret."""
    make = KalturaClient.generateSession if version == 1 else KalturaClient.generateSessionV2
    return plain(make(secret, user, kind, partner, expiry, privileges))


def describe(error):
    if isinstance(error, (KalturaException, KalturaClientException)):
        return {"code": error.code, "message": str(error.message)}
    return None


serve(
    {
        "open": open_,
        "ks": lambda ks: client.setKs(ks),
        "partner": lambda partner: client.setPartnerId(partner),
        "call": lambda service, action, *args: plain(call(service, action, *args)),
        "multi": multi,
        "seal": seal,
        "hash": lambda name, text: hashlib.new(name, text.encode()).hexdigest(),
        "headers": lambda: dict(client.responseHeaders.lower_items()),
    },
    describe,
)

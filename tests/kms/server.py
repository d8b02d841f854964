#!/usr/bin/env python3
"""AWS KMS for tests: moto, with what it lacks, and with faults. Needs moto[server]; prints its URL and serves until it is ended.

What moto lacks: it ignores MessageType=DIGEST and signs the hash of the digest; and a key in any state signs. Both are put right here.

POST /drain/key    {"spec", "private", "state"}      a key of this kind (secp256k1), this value (random), in this state (Enabled): {"id"}
POST /drain/fault  {"key", "action", "kind", "times"}  the next requests for this key go wrong; times -1: all of them
POST /drain/mend   {"key"}                           no faults any more
POST /drain/state  {"key", "state"}                  Enabled, Disabled, PendingDeletion or PendingImport
GET  /drain/seen?key=ID                              the requests that came for a key
GET  /drain/peak?key=ID                              how many were under way at once, at most
"""

import base64
import collections
import io
import json
import socket
import threading
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto.core import DEFAULT_ACCOUNT_ID
from moto.kms.exceptions import ValidationException
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "us-east-1"

# === MessageType=DIGEST ===

asked = threading.local()
sign_request, sign_message = KmsResponse.sign, ECDSAPrivateKey.sign


def sign_with_type(self):
    asked.digest = self._get_param("MessageType") == "DIGEST"
    return sign_request(self)


def sign_digest(self, message, algorithm):
    if not asked.digest:
        return sign_message(self, message, algorithm)
    if len(message) != 32:
        raise ValidationException("Digest is invalid length for algorithm ECDSA_SHA_256.")
    # By RFC 6979, which AWS does not promise: so that known signatures can be compared. s may be high, as AWS's.
    return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True))


KmsResponse.sign, ECDSAPrivateKey.sign = sign_with_type, sign_digest

# === faults, by key ===

lock = threading.Lock()
faults = collections.defaultdict(list)
seen = collections.defaultdict(list)
under_way, peak = collections.Counter(), collections.Counter()

# What AWS answers: status, code and text.
ERRORS = {
    "throttled": (400, "ThrottlingException", "You have exceeded the rate at which you may call KMS."),
    "internal": (500, "KMSInternalException", "An internal error occurred."),
    "unavailable": (503, None, "Service Unavailable"),
    "denied": (400, "AccessDeniedException", "User: arn:aws:iam::123456789012:user/drain is not authorized"),
    "expired": (400, "ExpiredTokenException", "The security token included in the request is expired"),
    "unknown_client": (400, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "bad_signature": (400, "InvalidSignatureException", "The Canonical String should have been 'x-amz-security-token:SESSIONTOKENECHO'"),
    "strange": (400, "SomethingNewException\n<b>", "?"),
}
STATES = {
    "Disabled": (400, "DisabledException", "arn is disabled."),
    "PendingDeletion": (400, "KMSInvalidStateException", "arn is pending deletion."),
    "PendingImport": (400, "KMSInvalidStateException", "arn is pending import."),
}


def take_fault(key, action):
    with lock:
        for fault in faults[key]:
            if fault["action"] == action and fault["times"] != 0:
                fault["times"] -= 1
                return fault["kind"]
    return None


def answer(start, status, body, kind="application/x-amz-json-1.1"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    start(f"{status} {'OK' if status == 200 else 'Error'}", [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]


def error(start, known):
    status, code, text = known
    return answer(start, status, {"__type": code, "message": text} if code else text.encode())


class Faulty:
    def __init__(self, moto):
        self.moto = moto
        self.backend = kms_backends[DEFAULT_ACCOUNT_ID][REGION]

    def __call__(self, environ, start):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ["PATH_INFO"]
        if path.startswith("/drain/"):
            return answer(start, 200, self.control(path, body, environ.get("QUERY_STRING", "")))
        action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2]
        key = json.loads(body or b"{}").get("KeyId", "").rpartition("/")[2]
        with lock:
            headers = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
            seen[key].append({"action": action, "headers": headers, "body": body.decode()})
            under_way[key] += 1
            peak[key] = max(peak[key], under_way[key])
        try:
            return self.kms(key, action, environ, start)
        finally:
            with lock:
                under_way[key] -= 1

    def kms(self, key, action, environ, start):
        fault = take_fault(key, action)
        if fault in ERRORS:
            return error(start, ERRORS[fault])
        if fault == "hang":
            time.sleep(20)
        if fault == "slow":
            time.sleep(0.2)
        if fault == "drop":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if fault == "garbage":
            return answer(start, 200, {"KeyId": key, "Signature": base64.b64encode(b"\x30\x01\x00").decode()})
        if fault == "nothing":
            return answer(start, 200, {"KeyId": key})
        if fault == "another_key":
            # A right signature, by another key.
            signature = ec.generate_private_key(ec.SECP256K1()).sign(b"", ec.ECDSA(hashes.SHA256()))
            return answer(start, 200, {"KeyId": key, "Signature": base64.b64encode(signature).decode()})
        known = self.backend.keys.get(key)
        if known and known.key_state in STATES and action in ("Sign", "GetPublicKey"):
            return error(start, STATES[known.key_state])
        return self.moto(environ, start)

    def control(self, path, body, query):
        wish = json.loads(body or b"{}")
        if path == "/drain/key":
            spec = wish.get("spec", "ECC_SECG_P256K1")
            usage = "ENCRYPT_DECRYPT" if spec == "SYMMETRIC_DEFAULT" else "SIGN_VERIFY"
            key = self.backend.create_key("", usage, spec, "drain", [])
            if wish.get("private"):
                key.private_key.private_key = ec.derive_private_key(int(wish["private"], 16), ec.SECP256K1())
            key.key_state = wish.get("state", "Enabled")
            return {"id": key.id, "arn": key.arn}
        if path == "/drain/state":
            self.backend.keys[wish["key"]].key_state = wish["state"]
            return {}
        with lock:
            if path == "/drain/fault":
                faults[wish["key"]].append({"action": wish["action"], "kind": wish["kind"], "times": wish["times"]})
                return {}
            if path == "/drain/mend":
                faults.pop(wish["key"], None)
                return {}
            key = urllib.parse.parse_qs(query)["key"][0]
            return peak[key] if path == "/drain/peak" else seen[key]


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


server = make_server("127.0.0.1", 0, Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Handler)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()

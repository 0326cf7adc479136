"""A client with Python's requests, as a partner's back office has it."""

import os
import sys

try:
    import requests
except ImportError:
    sys.exit("requests is missing: it is in the package python3-requests")

BASE = os.environ["BASE_URL"]
KEY = os.environ["API_KEY"]


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def refused(response, status, error, code):
    check(response.status_code == status, f"{status}, but {response.status_code} {response.text}")
    body = response.json()
    check(body["error"] == error and body["code"] == code, f"{error} {code}, but {body}")
    check(body["message"], "a message")
    check(response.headers["X-Request-Id"] == body["request_id"], "one request id")


with requests.Session() as session:
    session.trust_env = False
    session.headers["X-API-Key"] = KEY

    for _ in range(5):
        response = session.get(f"{BASE}/v1/wallets/wlt_1", timeout=20)
        check(response.status_code == 200 and response.json() == {"data": {"ok": True}}, response.text)

    response = session.post(
        f"{BASE}/v1/transfers/p2p", json={"amount": 150000}, headers={"Idempotency-Key": "k-1"}, timeout=20
    )
    check(response.status_code == 200, response.text)

    def pieces():
        yield b'{"amount":'
        yield b"150000}"

    check(session.post(f"{BASE}/v1/transfers/bank", data=pieces(), timeout=20).status_code == 200, "chunked")
    check(session.get(f"{BASE}/v1/chunked", timeout=20).json() == {"data": {"ok": True}}, "a chunked answer")
    check(session.head(f"{BASE}/v1/wallets/wlt_1", timeout=20).status_code == 200, "HEAD")
    response = session.get(f"{BASE}/v1/missing", timeout=20)
    check(response.status_code == 404 and response.json()["error"] == "WALLET_NOT_FOUND", response.text)

with requests.Session() as plain:
    plain.trust_env = False
    url = f"{BASE}/v1/wallets/wlt_1"
    check(plain.get(url, auth=(KEY, ""), timeout=20).status_code == 200, "Basic")
    check(plain.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=20).status_code == 200, "Bearer")
    refused(plain.get(url, timeout=20), 401, "MISSING_API_KEY", "key_missing")
    refused(
        plain.get(url, headers={"X-API-Key": os.environ["REVOKED_KEY"]}, timeout=20),
        401,
        "INVALID_API_KEY",
        "key_revoked",
    )

    admin = {"Authorization": f"Bearer {os.environ['ADMIN_TOKEN']}"}
    keys_url = f"{os.environ['ADMIN_URL']}/v1/keys"
    made = plain.post(keys_url, json={"label": "Script", "environment": "live"}, headers=admin, timeout=20)
    check(made.status_code == 201, made.text)
    check(plain.get(url, headers={"X-API-Key": made.json()["key"]}, timeout=20).status_code == 200, "a new key")

print("all is well")

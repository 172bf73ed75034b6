# SPDX-License-Identifier: Apache-2.0
"""Through a waypoint to a host outside of the mesh: every resolution of a ServiceEntry, TLS to nginx."""
import os

import pytest
from lab.l7_scene import AMBIENT, GATEWAY, L7Scene
from lab.lab import OUTSIDE_IP, OUTSIDE_IP6
from lab.programs import Program
from lab.sh import in_netns, run, wait_until
from lab.yamlout import write_atomically

HOST, TLS, MUTUAL = "api.example.test", 8443, 9443
VIPS = {"dns": "198.51.100.1", "mutual": "198.51.100.2", "wild": "198.51.100.3", "policy": "198.51.100.4",
        "proxied": "198.51.100.5", "secure": "10.96.0.77", "gateway": "198.51.100.6", "routed": "10.96.0.78"}


NAMES = [HOST, "one.wild.test", "mutual.example.test", "proxied.example.test", "gateway.example.test"]


class Certificates:
    """An authority of the outside's own, a server's certificate and a client's."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=outside "
                 "-keyout ca.key -out ca.crt")
        for name, san in (("server", f"DNS:{HOST},DNS:*.wild.test"), ("client", "URI:spiffe://outside/client")):
            write_atomically(self.path(f"{name}.ext"), f"subjectAltName={san}\nbasicConstraints=CA:FALSE\n")
            self.run(f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key "
                     f"-out {name}.csr")
            self.run(f"x509 -req -days 2 -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial "
                     f"-extfile {name}.ext -out {name}.crt")

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, words):
        run(["sh", "-c", f"cd {self.folder} && openssl {words}"])

    def text(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()


def start_tls_server(lab, certificates, netns, name):
    """nginx with TLS, with client certificates, and with PROXY headers."""
    folder = certificates.folder
    listens = "".join(
        f"server {{ listen {port} ssl; ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key; "
        f"{more} default_type text/plain; location / {{ return 200 "
        f"\"{port} $ssl_server_name $host $ssl_client_verify $remote_addr $http_x_request_id\\n\"; }} }}\n"
        for port, more in ((TLS, ""), (MUTUAL, f"ssl_verify_client on; ssl_client_certificate {folder}/ca.crt;")))
    proxied = ("server { listen 8089 proxy_protocol; default_type text/plain; location / { return 200 "
               "\"$proxy_protocol_addr\\n\"; } }\n")
    write_atomically(f"{folder}/{name}.conf", f"""daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
uwsgi_temp_path {folder}; scgi_temp_path {folder};
{listens}{proxied}}}
""")
    program = Program(lab, f"{name}.tls", ["nginx", "-c", f"{folder}/{name}.conf", "-e", f"{folder}/{name}.error.log"],
                      netns=netns)
    lab.programs.append(program)
    for port in (TLS, MUTUAL, 8089):
        program.wait_for("listening", lambda p=port: run(in_netns(netns, ["ss", "-Hltn", f"sport = :{p}"])).stdout, 10)


def entry(name, hosts, resolution, ports, addresses, **more):
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": name, "namespace": "production"},
            "spec": {"hosts": hosts, "addresses": addresses, "resolution": resolution, "location": "MESH_EXTERNAL",
                     "ports": [{"number": n, "name": p, "protocol": kind, **({"targetPort": t} if t else {})}
                               for n, p, kind, t in ports], **more}}


def rule(name, host, policy):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": "production"}, "spec": {"host": host, "trafficPolicy": policy}}


@pytest.fixture(scope="module")
def egress(mesh):
    lab = mesh.lab
    certificates = Certificates(os.path.join(lab.run_dir, "outside-tls"))
    start_tls_server(lab, certificates, lab.prefix + "outside", "outside")
    start_tls_server(lab, certificates, mesh.api1.netns, "secure")
    lab.service("production", "routed", {"app": "api"}, [("http", 80, 8080)], [VIPS["routed"]])
    lab.service("production", "secure", {"app": "api", "version": "v1"}, [("http", 80, TLS)], [VIPS["secure"]])
    # What the waypoint's resolver knows; the file itself is mounted, so it is written in place.
    with open(os.path.join(lab.run_dir, "control.hosts"), "a", encoding="utf-8") as hosts:
        hosts.write("".join(f"{OUTSIDE_IP} {name}\n" for name in NAMES))
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
              "metadata": {"name": "outside-ca", "namespace": "production"},
              "stringData": {"ca.crt": certificates.text("ca.crt")}}
    client = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
              "metadata": {"name": "outside-client", "namespace": "production"},
              "stringData": {"ca.crt": certificates.text("ca.crt"), "tls.crt": certificates.text("client.crt"),
                             "tls.key": certificates.text("client.key")}}
    simple = {"mode": "SIMPLE", "credentialName": "outside-ca"}
    http = [(80, "http", "HTTP", TLS)]
    lab.write("outside", secret, client,
              entry("dns", [HOST], "DNS", http + [(81, "http-bad", "HTTP", TLS)], [VIPS["dns"]]),
              rule("dns", HOST, {"tls": simple, "portLevelSettings": [
                  {"port": {"number": 80}, "tls": simple},
                  {"port": {"number": 81}, "tls": {**simple, "sni": "wrong.example.test"}}]}),
              entry("mutual", ["mutual.example.test"], "DNS", [(80, "http", "HTTP", MUTUAL)], [VIPS["mutual"]]),
              rule("mutual", "mutual.example.test", {"tls": {
                  "mode": "MUTUAL", "credentialName": "outside-client", "sni": HOST}}),
              entry("wild", ["*.wild.test"], "DYNAMIC_DNS", [*http, (443, "tls", "TLS", TLS)], [VIPS["wild"]]),
              rule("wild", "*.wild.test", {"portLevelSettings": [{"port": {"number": 80}, "tls": simple}]}),
              entry("none", ["none.example.test"], "NONE", [(8088, "http", "HTTP", 0)], [f"{OUTSIDE_IP}/32"]),
              entry("policy", ["policy.example.test"], "STATIC", [(80, "http", "HTTP", 8088)], [VIPS["policy"]],
                    endpoints=[{"address": OUTSIDE_IP6}]),
              {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": "only-get", "namespace": "production"},
               "spec": {"targetRefs": [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "policy"}],
                        "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}},
              entry("proxied", ["proxied.example.test"], "DNS", [(80, "http", "HTTP", 8089)], [VIPS["proxied"]]),
              # The same in the words of the Gateway API: TLS by BackendTLSPolicy, a route to the host's port 443.
              {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "outside-ca", "namespace": "production"},
               "data": {"ca.crt": certificates.text("ca.crt")}},
              entry("gateway", ["gateway.example.test"], "DNS", [(443, "https", "HTTP", TLS)], [VIPS["gateway"]]),
              {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
               "metadata": {"name": "gateway", "namespace": "production"},
               "spec": {"targetRefs": [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "gateway"}],
                        "validation": {"hostname": "other.example.test", "subjectAltNames": [
                            {"type": "Hostname", "hostname": HOST}],
                            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "outside-ca"}]}}},
              {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
               "metadata": {"name": "routed", "namespace": "production"},
               "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "routed", "port": 80}],
                        "rules": [{"backendRefs": [{"group": "networking.istio.io", "kind": "Hostname",
                                                    "name": "gateway.example.test", "port": 443}]}]}},
              rule("secure", "secure", {"tls": {**simple, "sni": HOST}}),
              rule("proxied", "proxied.example.test", {"proxyProtocol": {"version": "V1"}}))
    lab.write("gateway-waypoint", GATEWAY)
    lab.namespace("production", {**AMBIENT, "istio.io/use-waypoint": "waypoint"})
    l7 = L7Scene(mesh)
    wait_until("culvertd's waypoint is ready", l7.waypoint, 20)
    wait_until("requests leave through it", lambda: ask(mesh, VIPS["dns"], HOST)[0] == 200, 20)
    yield mesh
    log = l7.log()
    assert "AddressSanitizer" not in log and "runtime error:" not in log, log[-3000:]


def ask(mesh, vip, host, *options, port=80):
    return mesh.web.curl(f"http://{vip}:{port}/", "-H", f"host: {host}", *options)


@pytest.mark.sanitized
def test_dns_with_tls_of_the_waypoints_own(egress):
    status, body, words = ask(egress, VIPS["dns"], HOST)
    assert status == 200, words
    port, server_name, host, verified, peer, request_id = body.split()
    assert (port, server_name, host, verified) == (str(TLS), HOST, HOST, "NONE")
    assert peer != egress.web.ip, "the waypoint goes out, not the pod"
    assert len(request_id) == 36
    status, body, _ = ask(egress, VIPS["dns"], HOST, port=81)
    assert status == 503 and "is not for wrong.example.test" in body


@pytest.mark.sanitized
def test_a_client_certificate_from_a_secret(egress):
    status, body, words = ask(egress, VIPS["mutual"], "mutual.example.test")
    assert status == 200 and body.split()[3] == "SUCCESS", (body, words)
    # The key is nobody else's to see.
    _, dump = egress.lab.control_get("/debug/config")
    assert "PRIVATE KEY" not in dump


@pytest.mark.sanitized
def test_wildcards_by_host_and_by_server_name(egress):
    status, body, words = ask(egress, VIPS["wild"], "one.wild.test")
    assert status == 200 and body.split()[1] == "one.wild.test", (body, words)
    assert ask(egress, VIPS["wild"], "evil.test")[0] == 404
    status, body, _ = ask(egress, VIPS["wild"], "gone.wild.test")
    assert (status, body) == (503, "DNS resolution failure")
    ca = os.path.join(egress.lab.run_dir, "outside-tls", "ca.crt")
    options = ["--cacert", ca, "--resolve", f"one.wild.test:443:{VIPS['wild']}",
               "--resolve", f"evil.test:443:{VIPS['wild']}"]
    status, body, words = egress.web.curl("https://one.wild.test/", *options)
    assert status == 200 and body.split()[4] != egress.web.ip, (body, words)
    assert egress.web.curl("https://evil.test/", *options)[0] == 0


@pytest.mark.sanitized
def test_none_goes_where_the_client_was_going(egress):
    status, body, words = egress.web.curl(f"http://{OUTSIDE_IP}:8088/")
    assert status == 200 and body.startswith("outside sees ") and egress.web.ip not in body, (body, words)
    assert 'destination_service="none.example.test"' in L7Scene(egress).page("/stats/prometheus", 15020)


@pytest.mark.sanitized
def test_a_policy_of_the_service_entry(egress):
    status, body, _ = ask(egress, VIPS["policy"], "policy.example.test")
    assert status == 200 and body.startswith("outside sees ")
    status, body, _ = ask(egress, VIPS["policy"], "policy.example.test", "-X", "POST")
    assert (status, body) == (403, "RBAC: access denied")


@pytest.mark.sanitized
def test_a_proxy_header_says_who_the_client_is(egress):
    status, body, words = ask(egress, VIPS["proxied"], "proxied.example.test")
    assert status == 200 and body.strip() == egress.web.ip, (body, words)


@pytest.mark.sanitized
def test_tls_of_the_applications_own_inside_hbone(egress):
    status, body, words = ask(egress, VIPS["secure"], "secure")
    assert status == 200 and body.split()[:2] == [str(TLS), HOST], (body, words)
    metrics = L7Scene(egress).page("/stats/prometheus", 15020)
    lines = [line for line in metrics.splitlines() if line.startswith("istio_requests_total")
             and 'destination_service_name="secure"' in line]
    assert lines and all('connection_security_policy="mutual_tls"' in line for line in lines), lines


@pytest.mark.sanitized
@pytest.mark.parametrize("way", ["gateway", "routed"])
def test_tls_and_routes_of_the_gateway_api(egress, way):
    status, body, words = ask(egress, VIPS[way], "any.example.test", port=443 if way == "gateway" else 80)
    assert status == 200 and body.split()[:3] == [str(TLS), "other.example.test", "any.example.test"], (body, words)

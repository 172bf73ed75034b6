# SPDX-License-Identifier: Apache-2.0
"""The subjects: ways from a client to a server of the lab. Each answers the same calls, so that a case does not
know whom it measures."""
import os

from lab.scene import Scene, wait_reaches
from lab.sh import run
from lab.yamlout import write_atomically

PORT = 7000   # of the load server in every server pod
HAPROXY_TLS, HAPROXY_TCP, HAPROXY_OUT = 7443, 7444, 7001


class Field:
    """The lab with its pods: enrolled ones, plain ones, a load server in each that serves."""

    def __init__(self, lab, binary_of_load):
        self.lab, self.load, self.scene = lab, binary_of_load, Scene(lab)

    def raise_all(self, ztunnel_env):
        lab, scene = self.lab, self.scene
        scene.raise_mesh(ztunnel_env)
        scene.raise_pods()
        one, two = lab.nodes
        lab.namespace("plain")
        lab.accounts("plain", "plain")
        self.client = lab.create_pod(one, "plain", "client", "plain", {"app": "client"}, attempts=5)
        self.near = lab.create_pod(one, "plain", "near", "plain", {"app": "near"}, attempts=5)
        self.server = lab.create_pod(two, "plain", "server", "plain", {"app": "server"}, attempts=5)
        scene.enrol_production()
        for pod in (scene.api1, scene.api2, self.server, self.near):
            program = pod.start("load", [self.load, "serve", str(PORT)])
            wait_listening(program, pod, PORT)


def wait_listening(program, pod, port):
    program.wait_for(f"listening on {port}", lambda: pod.run(["ss", "-Hltn", f"sport = :{port}"]).stdout, 5)


class Subject:
    """A name, what of the paths it has ("cross", "same", "plain": an unenrolled client), and its processes."""
    name = ""
    programs = ()

    def route(self, path):
        """(client pod, address, port), or None where it has no such path."""
        raise NotImplementedError

    def activate(self):
        """Called before its part of a round."""


class Direct(Subject):
    name = "direct"

    def __init__(self, field):
        self.field = field

    def route(self, path):
        return self.field.client, (self.field.near if path == "same" else self.field.server).ip, PORT


class Mesh(Subject):
    """A pair of node proxies, ours or any ztunnel-compatible binary, under the same control plane, certificates
    and environment. Two of these take turns: the one that is not measured does not run."""
    running = None

    def __init__(self, field, name, binary=None, env=None):
        self.field, self.name, self.binary, self.env = field, name, binary, env or {}

    @property
    def programs(self):
        return [node.ztunnel.program for node in self.field.lab.nodes]

    def route(self, path):
        scene = self.field.scene
        client = self.field.client if path == "plain" else scene.web
        return client, (scene.api2 if path == "same" else scene.api1).ip, PORT

    def activate(self):
        if Mesh.running in (None, self.name) and not (Mesh.running is None and (self.binary or self.env)):
            Mesh.running = self.name
            return
        for node in self.field.lab.nodes:
            node.ztunnel.program.stop(timeout=20)
        if self.binary:
            self.field.lab.replaced["ztunnel"] = self.binary
        else:
            self.field.lab.replaced.pop("ztunnel", None)
        for node in self.field.lab.nodes:
            node.ztunnel.extra_env = self.env
            node.ztunnel.start()
            node.ztunnel.wait_ready()
        Mesh.running = self.name
        scene = self.field.scene
        for pod in (scene.api1, scene.api2):
            wait_reaches(scene.web, pod.ip, timeout=15)


class Haproxy(Subject):
    def __init__(self, field, name, tls):
        self.field, self.name, self.tls, self.programs = field, name, tls, []

    def start(self, folder, certificate):
        """With TLS: a pair that keeps its connections apart, as no pool of HAProxy's carries raw TCP. Without: one hop
        that splices."""
        both, authority = certificate
        head = ("global\n  nbthread 2\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n"
                "  timeout server 300s\n")
        field = self.field
        if self.tls:
            tls = f"crt {both} ca-file {authority} verify required ssl-min-ver TLSv1.3"
            parts = [(field.client, HAPROXY_OUT, f"listen out\n  bind 127.0.0.1:{HAPROXY_OUT}\n"
                                                 f"  server s {field.server.ip}:{HAPROXY_TLS} ssl {tls}\n"),
                     (field.server, HAPROXY_TLS, f"listen in\n  bind :{HAPROXY_TLS} ssl {tls}\n  server s 127.0.0.1:{PORT}\n")]
        else:
            parts = [(field.server, HAPROXY_TCP, f"listen in\n  bind :{HAPROXY_TCP}\n  option splice-auto\n"
                                                 f"  server s 127.0.0.1:{PORT}\n")]
        for pod, port, text in parts:
            path = os.path.join(folder, f"{self.name}-{pod.name}.cfg")
            write_atomically(path, head + text)
            program = pod.start(self.name, ["haproxy", "-db", "-f", path])
            wait_listening(program, pod, port)
            self.programs.append(program)

    def route(self, path):
        if path == "same" or (path == "cross") != self.tls:
            return None
        return (self.field.client, "127.0.0.1", HAPROXY_OUT) if self.tls else (self.field.client, self.field.server.ip, HAPROXY_TCP)


def certificate_for_haproxy(folder):
    os.makedirs(folder, exist_ok=True)
    key, cert, both = (os.path.join(folder, n) for n in ("key.pem", "cert.pem", "both.pem"))
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=bench", "-keyout", key, "-out", cert])
    with open(both, "w", encoding="utf-8") as out:
        for path in (cert, key):
            with open(path, encoding="utf-8") as part:
                out.write(part.read())
    return both, cert


def make_subjects(field, wanted, peers):
    """The subjects by name. `peers`: {name: path of a ztunnel-compatible binary}."""
    folder = os.path.join(field.lab.run_dir, "haproxy")
    certificate = certificate_for_haproxy(folder)
    made = [Direct(field), Haproxy(field, "haproxy-tcp", False), Haproxy(field, "haproxy-mtls", True), Mesh(field, "culvert"),
            Mesh(field, "culvert-tunnel", env={"CULVERT_LOCAL_PATH": "false"})]
    made += [Mesh(field, name, binary) for name, binary in peers.items()]
    chosen = [s for s in made if s.name in wanted or s.name in peers]
    for subject in chosen:
        if isinstance(subject, Haproxy):
            subject.start(folder, certificate)
    return chosen


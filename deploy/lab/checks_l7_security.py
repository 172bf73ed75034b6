# SPDX-License-Identifier: Apache-2.0
"""Demo checks 12 and 13: the user's security-config.yaml at the waypoint: who, what, which token; rate limits."""
import time

from .checks_l7 import l7_scene
from .l7_scene import HTTP_APPS, SERVICE_VIP
from .lab import PYTHON
from .programs import Program
from .sh import wait_until
from .tokens import HOST as ISSUER_HOST, tampered


def policies(demo):
    report = demo.report
    report.heading("12. The user's security-config.yaml: policies bound by selector, enforced at the waypoint")
    l7 = l7_scene(demo)
    lab, web, other = l7.lab, l7.web, l7.other
    l7.routes.apply()
    with report.check("principal, method and path: who may do what, and the health exemption") as c:
        c.must(l7.get("/api/v1/items", pod=other)[0] == 200, "other-service is refused before the policy is there")
        began = l7.security.apply()
        l7.wait_status("/api/v1/items", 403, pod=other)
        seconds = time.monotonic() - began
        rows = [(web, "GET", "/api/v1/items", 200), (web, "POST", "/api/v1/items", 200),
                (web, "DELETE", "/api/v1/items", 403), (web, "GET", "/api/v2/items", 403),
                (web, "GET", "/health", 200), (other, "GET", "/health", 200), (other, "POST", "/health", 403),
                (other, "GET", "/api/v1/items", 403), (other, "GET", "/api/v1/../../health", 200),
                (other, "GET", "/health/%2e%2e/api/v1/items", 403)]
        for pod, method, path, expected in rows:
            status, body, words = l7.get(path, "-X", method, "--path-as-is", pod=pod)
            c.must(status == expected, f"{pod.account} {method} {path}: {status} {body} {words}, not {expected}")
            if expected == 403:
                c.must(body == "RBAC: access denied", f"the answer says `{body}`")
        c.saw(f"in force {seconds * 1000:.0f} ms after the file was written; {len(rows)} cases as written; "
              "denials say `RBAC: access denied`")
    with report.check("the waypoint's log says who was refused what, and by which policy") as c:
        offset = l7.log_size()
        l7.get("/api/v1/items", pod=other)
        line = wait_until("the refusal is told", lambda: next(
            (x for x in l7.log(offset).splitlines() if "refused by policy" in x), None), 5)
        c.must(other.identity in line and "/api/v1/items" in line, line)
        c.saw(f"`{line.split(chr(9), 2)[-1].strip()}`")
    with report.check("nobody walks around the waypoint: pods admit it alone") as c:
        for pod in (l7.v1, l7.v2):
            for client in (web, other, demo.scene.batch):
                status, body, words = client.curl(f"http://{pod.ip}:8080/api/v1/items", timeout=4)
                c.must(status == 0, f"{client.name} got {status} from {pod.name} directly")
        status, body, words = demo.scene.intruder.curl(f"http://{SERVICE_VIP}/health", timeout=4)
        c.must(status == 0, f"the intruder got {status}")
        c.must(l7.get("/api/v1/items")[0] == 200, "web-service is refused through the waypoint")
        c.saw("web-service, other-service and batch are refused at both pods' own addresses, the intruder everywhere; "
              "web-service passes through the waypoint")
    with report.check("a second file edit is as quick: the policy goes, and comes back") as c:
        began = l7.security.edited(lambda kinds: kinds["AuthorizationPolicy"]["spec"]["rules"].pop())
        gone = l7.wait_status("/health", 403, pod=other)
        l7.security.apply()
        back = l7.wait_status("/health", 200, pod=other)
        c.saw(f"without the health rule other-service is refused after {gone * 1000:.0f} ms, with it served after "
              f"{back * 1000:.0f} ms")


def start_keys(demo):
    """The issuer's HTTPS server, on node1."""
    lab, issuer = demo.lab, demo.scene.issuer
    program = Program(lab, "keys", [PYTHON, HTTP_APPS, "keys", issuer.folder, issuer.path["cert.pem"],
                                    issuer.path["key.pem"], "443"], netns=lab.nodes[0].netns)
    lab.programs.append(program)
    program.wait_for("listening", lambda: lab.nodes[0].run(["ss", "-Hltn", "sport = :443"]).stdout, 10)
    return program


def tokens(demo):
    report = demo.report
    l7 = l7_scene(demo)
    issuer = demo.scene.issuer
    server = None

    def ask(token):
        status, body, words = l7.get("/api/v1/items", "-H", f"authorization: Bearer {token}")
        return status, body if isinstance(body, str) else "", words

    with report.check("before the key server answers a token is refused, no token passes") as c:
        status, body, _ = ask(issuer.keys["RS256"].token())
        c.must(status == 401, f"{status} {body}")
        c.must(l7.get("/api/v1/items")[0] == 200, "a request without a token is refused")
        c.saw(f"401 `{body}`")
    with report.check(f"tokens of https://{ISSUER_HOST}: RS256, PS256, ES256, EdDSA") as c:
        server = start_keys(demo)
        rs = issuer.keys["RS256"]
        wait_until("culvertd has fetched the keys", lambda: ask(rs.token())[0] == 200, 90, 0.1)
        for name, key in issuer.keys.items():
            status, body, words = ask(key.token())
            c.must(status == 200, f"{name}: {status} {body} {words}")
        c.saw(f"{len(issuer.keys)} algorithms pass; keys fetched by HTTPS, signed by the lab's own CA")
    with report.check("bad tokens: expired, early, audience, issuer, key id, alg none, tampered, garbage") as c:
        rs, now = issuer.keys["RS256"], int(time.time())
        rows = [("expired", rs.token(exp=now - 300), 401, "Jwt is expired"),
                ("too early", rs.token(nbf=now + 300), 401, "Jwt not yet valid"),
                ("audience", rs.token(aud="somebody-else"), 403, "Audiences in Jwt are not allowed"),
                ("issuer", rs.token(iss="https://evil.example"), 401, "Jwt issuer is not configured"),
                ("key id", rs.token(kid="unknown"), 401, "Jwks doesn't have key to match kid or alg from Jwt"),
                ("alg none", rs.token(algorithm="none", signed=False), 401, ""),
                ("alg HS256", rs.token(algorithm="HS256"), 401, ""),
                ("tampered", tampered(rs.token()), 401, "Jwt verification fails"),
                ("garbage", "not.a-token", 401,
                 "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
        for name, token, expected, text in rows:
            status, body, words = ask(token)
            c.must(status == expected and (not text or body == text), f"{name}: {status} `{body}` {words}")
        c.must(ask(rs.token(aud=["other", "api-service"]))[0] == 200, "an audience in a list is refused")
        c.saw("; ".join(f"{name} {expected}" for name, _, expected, _ in rows))
    with report.check("key rotation, and a key server that is down") as c:
        old = issuer.rotate("ES256", "es256-2")
        new = issuer.keys["ES256"]
        began = time.monotonic()
        wait_until("the new key is taken", lambda: ask(new.token())[0] == 200, 90, 0.05)
        seconds = time.monotonic() - began
        status, body, _ = ask(old.token())
        c.must(status == 401, f"the key that is gone: {status} {body}")
        server.kill()
        time.sleep(2.5)   # two fetches that fail
        c.must(ask(new.token())[0] == 200, "with the server down its keys are forgotten")
        c.saw(f"new key taken {seconds:.1f} s after it was published (refreshed every second here), the old one refused; "
              "keys stay while the server is down")
    with report.check("an outside token does not help a client that the policy refuses") as c:
        status, body, _ = l7.get("/api/v1/items", "-H", f"authorization: Bearer {issuer.keys['RS256'].token()}",
                                 pod=l7.other)
        c.must(status == 403, f"{status} {body}")
        c.saw("other-service with a good token: 403")


def rate_limits(demo):
    report = demo.report
    l7 = l7_scene(demo)
    report.heading("13. Rate limits")
    l7.security.remove()
    l7.wait_status("/api/v1/items", 200, pod=l7.other)

    def policy(mode, requests):
        return {"apiVersion": "policy.culvert.dev/v1alpha1", "kind": "RateLimitPolicy",
                "metadata": {"name": "per-client", "namespace": "production"},
                "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "api-service"}], "mode": mode,
                         "rules": [{"name": "per-client", "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
                                    "key": ["SourcePrincipal"], "limit": {"requests": requests, "per": "1m"}}]}}

    def decisions():
        found = {}
        for line in l7.page("/stats/prometheus", 15020).splitlines():
            if line.startswith("mesh_ratelimit_requests_total{"):
                labels, _, value = line.rpartition(" ")
                found[labels.split('decision="')[1].split('"')[0]] = float(value)
        return found

    with report.check("20 a minute for each client: the 21st is answered 429 with the standard fields") as c:
        l7.lab.write("ratelimit", policy("Enforce", 20))
        wait_until("the limit is live", lambda: l7.response_header("/api/v1/items", "ratelimit-policy"), 5)
        result = l7.load("/api/v1/items", count=30)
        passed = sum(count for key, count in result["by"].items() if key.startswith("200"))
        c.must(passed == 19 and result["by"].get("429") == 11, f"{result['by']} after one request before")
        headers = l7.web.run(["curl", "-sS", "-i", f"http://{SERVICE_VIP}/api/v1/items"]).stdout.lower()
        for field in ("ratelimit:", "ratelimit-policy:", "retry-after:", "x-envoy-ratelimited: true", "local_rate_limited"):
            c.must(field in headers, f"no `{field}` in {headers}")
        others = l7.load("/api/v1/items", pod=l7.other, count=10)
        c.must(sum(n for k, n in others["by"].items() if k.startswith("200")) == 10, f"other-service: {others['by']}")
        c.must(l7.get("/health")[0] == 200, "/health is limited as well")
        limit = next(x.strip() for x in headers.splitlines() if x.startswith("ratelimit-policy:"))
        c.saw(f"20 passed, then 429; other-service has a bucket of its own; `{limit}`")
    with report.check("shadow mode counts and refuses nobody") as c:
        l7.lab.write("ratelimit", policy("Shadow", 5))
        l7.wait_status("/api/v1/items", 200)
        result = l7.load("/api/v1/items", count=30)
        c.must(all(key.startswith("200") for key in result["by"]), f"{result['by']}")
        told = decisions()
        c.must(told.get("shadow_reject", 0) >= 20, f"{told}")
        c.saw(f"30 of 30 pass; counted: {told}")
    l7.lab.remove("ratelimit")


__all__ = ["policies", "rate_limits", "tokens"]

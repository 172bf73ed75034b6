# SPDX-License-Identifier: Apache-2.0
"""Demo checks 9 to 11: a waypoint routes: canary, A/B, retries, timeouts, circuit breaking, outlier detection."""
import contextlib
import math
import time

from .l7_scene import HOST, L7Scene
from .sh import wait_until


def l7_scene(demo):
    """The scene's L7 part, raised by the first section that wants it."""
    if demo.l7 is None:
        demo.l7 = L7Scene(demo.scene)
        demo.lab.remove("security-config")
        demo.l7.raise_pods()
    return demo.l7


def within_binomial(count, total, share, sigmas=4.5):
    """Whether `count` of `total` is what chance gives for `share`; 4.5 sigmas: one run in 150,000 is not."""
    return abs(count - total * share) <= sigmas * math.sqrt(total * share * (1 - share))


def by_version(result):
    """({version: answers}, answers that were no 200) of a load."""
    good = {key.split()[1]: count for key, count in result["by"].items() if key.startswith("200 ")}
    return good, {key: count for key, count in result["by"].items() if not key.startswith("200 ")}


def weights(v1, v2):
    def edit(kinds):
        for route, weight in zip(kinds["VirtualService"]["spec"]["http"][0]["route"], (v1, v2)):
            route["weight"] = weight
    return edit


@contextlib.contextmanager
def knobs(l7, *pods, **what):
    """Applications that behave differently for a while, with nothing of before still in their hands."""
    for pod in pods:
        wait_until(f"{pod.name} is idle", lambda p=pod: l7.seen(p)["now"] == 0, 10)
        l7.control(pod, **what)
    try:
        yield
    finally:
        for pod in pods:
            l7.control(pod)


def waypoint(demo):
    report = demo.report
    report.heading("9. Waypoint")
    l7 = l7_scene(demo)
    with report.check("a Gateway and a label: culvertd starts the waypoint, node proxies go through it") as c:
        status, answer, words = l7.get("/health")
        c.must(status == 200 and "x-request-id" not in answer["headers"], f"before: {status} {answer} {words}")
        row, ready, through = l7.raise_waypoint()
        c.saw(f"{row['namespace']}/{row['name']} at {row['address']} on {l7.lab.nodes[1].name} ready after {ready * 1000:.0f} ms, "
              f"in the way of api-service after {through * 1000:.0f} ms")
    with report.check("the application sees the request as it was, and who asked") as c:
        status, answer, words = l7.get("/health", "-H", "x-mine: yes", "-A", "curl/demo")
        c.must(status == 200, f"{status} {answer} {words}")
        seen = answer["headers"]
        c.must(seen.get("x-mine") == "yes" and seen.get("user-agent") == "curl/demo", seen)
        c.must(seen.get("host") == l7.get("/health")[1]["headers"]["host"], seen)
        c.must("x-request-id" in seen, f"no x-request-id: {seen}")
        c.saw(f"{answer['name']} saw {answer['method']} {answer['path']} host={seen['host']} "
              f"x-forwarded-proto={seen.get('x-forwarded-proto')} x-request-id={seen['x-request-id']}")


def routing(demo):
    report = demo.report
    report.heading("10. Canary and A/B, by the user's virtual-service-config.yaml")
    l7 = l7_scene(demo)
    total = 400 if demo.quick else 2000
    with report.check(f"canary: {total} requests to /api/v1 split 90/10") as c:
        l7.routes.apply()
        wait_until("the routes are live", lambda: "v2" not in by_version(l7.load("/health", count=20))[0], 10)
        good, bad = by_version(l7.load("/api/v1/items", count=total, threads=8))
        c.must(not bad and sum(good.values()) == total, f"answers that were no 200: {bad}")
        c.must(within_binomial(good.get("v2", 0), total, 0.1), f"{good} is not 90/10")
        c.saw(f"v1 {good['v1']}, v2 {good['v2']}")
    with report.check("an edited weight is live in milliseconds, under load, without a failed request") as c:
        load = l7.start_load("/api/v1/items", threads=4)
        try:
            times = []
            for v1, v2, only in ((0, 100, "v2"), (100, 0, "v1")) * (1 if demo.quick else 50):
                began = l7.routes.edited(weights(v1, v2))
                wait_until(f"all requests go to {only}",
                           lambda want=only: l7.get("/api/v1/items")[1]["name"] == want, 5, 0.002)
                times.append(time.monotonic() - began)
                good, _ = by_version(l7.load("/api/v1/items", count=20))
                c.must(set(good) == {only}, f"after {v1}/{v2} the answers came from {good}")
        finally:
            result = l7.finish_load(load)
            l7.routes.apply()
        good, bad = by_version(result)
        c.must(not bad and not result["failures"], f"{bad} {result['failed']}")
        c.saw(f"{len(times)} edits, seen by a request after {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms; "
              f"{sum(good.values())} requests meanwhile, none failed")
    with report.check("A/B: Chrome goes to v2, others to v1; matches are in order") as c:
        chrome = ["user-agent: Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"]
        good, bad = by_version(l7.load("/health", count=50, headers=chrome))
        c.must(good == {"v2": 50} and not bad, f"Chrome: {good} {bad}")
        good, bad = by_version(l7.load("/health", count=50, headers=["user-agent: Firefox/120"]))
        c.must(good == {"v1": 50} and not bad, f"Firefox: {good} {bad}")
        good, bad = by_version(l7.load("/api/v1/items", count=200, threads=4, headers=chrome))
        c.must(good.get("v1", 0) > 100 and not bad, f"the canary rule comes first, also for Chrome: {good} {bad}")
        c.saw(f"Chrome at /health: v2; Firefox: v1; Chrome at /api/v1: {good}, as the first rule says")


def quick_retries(kinds):
    """The seed's timeouts, thirty times as fast. What it says of retries does not cover 5xx by itself."""
    for rule in kinds["VirtualService"]["spec"]["http"]:
        rule["timeout"] = "1s"
        if "retries" in rule:
            rule["retries"].update({"perTryTimeout": "300ms", "retryOn": "5xx"})


def resilience(demo):
    report = demo.report
    report.heading("11. Retries, timeouts, circuit breaking, outlier detection")
    l7 = l7_scene(demo)
    with report.check("retries: a 503 is tried again, three times at most") as c:
        with l7.routes_with(quick_retries):
            before = l7.seen(l7.v1)["count"]
            with knobs(l7, l7.v1, status=503, first=2):
                status, answer, _ = l7.get("/health")
            tries = l7.seen(l7.v1)["count"] - before
            c.must(status == 200 and tries == 3, f"{status} after {tries} tries")
            before = l7.seen(l7.v1)["count"]
            with knobs(l7, l7.v1, status=503):
                status, answer, _ = l7.get("/health")
            most = l7.seen(l7.v1)["count"] - before
            c.must(status == 503 and most == 4, f"{status} after {most} tries")
            c.saw(f"two 503 and a 200: one answer, {tries} tries; 503 for ever: 503 after {most} tries")
    with report.check("timeouts: perTryTimeout cuts tries, timeout cuts all of them") as c:
        with l7.routes_with(quick_retries), knobs(l7, l7.v1, l7.v2, delay=5):
            before = l7.seen(l7.v1)["count"]
            began = time.monotonic()
            status, answer, _ = l7.get("/health")
            took = time.monotonic() - began
            tries = l7.seen(l7.v1)["count"] - before
            c.must(status == 504 and 0.9 <= took <= 1.4, f"{status} after {took:.2f} s: {answer}")
            c.must(2 <= tries <= 4, f"{tries} tries")
            c.saw(f"504 `{str(answer).strip()}` after {took * 1000:.0f} ms and {tries} tries of 300 ms")
    with report.check("circuit breaking: overflow answers 503 UO at exactly the bound") as c:
        def bound(kinds):
            # Streams of HTTP/2 are bounded by requests; the seed's own pools are larger than a demo can fill.
            rule = kinds["DestinationRule"]["spec"]
            rule["trafficPolicy"].pop("outlierDetection")
            for subset in rule["subsets"]:
                subset["trafficPolicy"]["connectionPool"]["http"] = {"http2MaxRequests": 5, "h2UpgradePolicy": "UPGRADE"}
            for route in kinds["VirtualService"]["spec"]["http"]:
                route.pop("retries", None)
                route["retries"] = {"attempts": 0}
        with l7.routes_with(bound), knobs(l7, l7.v1, l7.v2, delay=1.5):
            result = l7.load("/health", count=20, threads=20)
            good, bad = by_version(result)
            most = l7.seen(l7.v1)["most"]
            c.must(good == {"v1": 5} and bad == {"503": 15}, f"{result}")
            c.must(most == 5, f"the application had {most} at once")
            status, answer, _ = l7.get("/health")
        c.saw("20 at once against a bound of 5: 5 answers, 15 refused at once; the application never had more than 5")
    with report.check("outlier detection: five 5xx in a row put an endpoint out, for baseEjectionTime") as c:
        def quick(kinds):
            rule = kinds["DestinationRule"]["spec"]
            outliers = rule["trafficPolicy"]["outlierDetection"]
            outliers.update({"interval": "200ms", "baseEjectionTime": "2s", "maxEjectionPercent": 100})
            outliers.pop("minRequestVolume")
            # Otherwise the endpoint in the waypoint's own zone gets all there is while it is well.
            rule["trafficPolicy"]["loadBalancer"] = {"simple": "ROUND_ROBIN", "localityLbSetting": {"enabled": False}}
            rule["subsets"] = [{"name": name, "labels": {"app": "api-service"}} for name in ("v1", "v2")]
            for route in kinds["VirtualService"]["spec"]["http"]:
                route["retries"] = {"attempts": 0}
        with l7.routes_with(quick):
            with knobs(l7, l7.v2, status=500):
                began = time.monotonic()
                result = l7.load("/health", count=100)
                good, bad = by_version(result)
                c.must(sum(bad.values()) == 5, f"errors until it was out: {bad}")
                after, bad_after = by_version(l7.load("/health", count=50))
                c.must(after == {"v1": 50} and not bad_after, f"{after} {bad_after}")
            wait_until("it comes back", lambda: "v2" in by_version(l7.load("/health", count=10))[0], 10)
            away = time.monotonic() - began
            c.must(away >= 1.9, f"it was back after {away:.1f} s")
            c.saw(f"5 errors, then none of 145; back after {away:.1f} s")


__all__ = ["HOST", "l7_scene", "by_version", "knobs", "resilience", "routing", "waypoint"]

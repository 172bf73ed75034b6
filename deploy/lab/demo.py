#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: raises the lab, runs the checks of each section, cleans up. Called by deploy/demo."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import checks_failure, checks_l7, checks_l7_security, checks_l7_watch, checks_policy, checks_traffic   # noqa: E402
from lab.lab import Lab   # noqa: E402
from lab.programs import Ended   # noqa: E402
from lab.report import Report   # noqa: E402
from lab.scene import Scene   # noqa: E402
from lab.sh import LabError, run   # noqa: E402

# One-minute certificates and one-second keepalives: the time an hour would take is compressed here.
ZTUNNEL_ENV = {"SECRET_TTL": "60s", "KEEPALIVE_TIME": "1s", "KEEPALIVE_INTERVAL": "1s", "AUTHZ_POLICY_INFO_LOGGING": "true"}

SECTIONS = {
    1: (checks_traffic.before_enrolment,),
    2: (checks_traffic.enrolment,),
    3: (checks_traffic.what_the_apps_see,),
    4: (checks_policy.strict, checks_traffic.idle_keepalive),
    5: (checks_policy.authorization,),
    6: (checks_failure.crashes,),
    7: (checks_failure.rotation_and_reuse,),
    8: (checks_failure.counters,),
    9: (checks_l7.waypoint,),
    10: (checks_l7.routing,),
    11: (checks_l7.resilience,),
    12: (checks_l7_security.policies, checks_l7_security.tokens),
    13: (checks_l7_security.rate_limits,),
    14: (checks_l7_watch.metrics, checks_l7_watch.telemetry, checks_l7_watch.access_log),
    15: (checks_failure.aftermath,),
}


class Demo:
    """What the checks share."""

    def __init__(self, lab, report, quick):
        self.lab, self.report, self.quick = lab, report, quick
        self.scene = Scene(lab)
        self.tester = self.idle = self.l7 = None
        self.idle_began = 0.0


def how_to_look(lab):
    culvert = lab.binary("culvert")
    one = lab.nodes[0]
    inside = f"ip netns exec {one.ztunnel.pod.netns}"
    views = f"  {inside} curl -s localhost:15000/config_dump"
    if run([culvert, "get", "--help"], check=False).returncode == 0:
        views = f"  {inside} {culvert} get workloads\n  {inside} {culvert} get connections"
    return f"""
The mesh is up. Edit manifests in {lab.manifests}, and look around:
  ip netns exec {lab.prefix}pod-production-web curl http://10.96.0.10/
{views}
  {inside} curl -s localhost:15020/metrics
  ip netns exec {lab.prefix}control curl -s localhost:8080/debug/syncz
  ip netns exec {lab.prefix}node1 tcpdump -ni link-node2 tcp
  tail -f {lab.run_dir}/logs/*.log
Remove it with: deploy/demo --clean"""


def main():
    parser = argparse.ArgumentParser(prog="deploy/demo", description="Raises a two-node mesh and proves what it does.")
    parser.add_argument("--keep", action="store_true", help="leave the mesh up and say how to look at it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    parser.add_argument("--quick", action="store_true", help="64 MiB instead of 1 GiB, fewer rounds")
    parser.add_argument("--clean", action="store_true", help="only remove what an earlier run left")
    parser.add_argument("--sections", default="", help="only these sections, e.g. 1,2,5 (2 enrols)")
    args = parser.parse_args()
    report = Report(args.json)
    lab = Lab("demo", keep=args.keep, progress=report.progress)
    if args.clean:
        with lab:
            pass
        return 0
    chosen = [int(s) for s in args.sections.split(",")] if args.sections else list(SECTIONS)
    try:
        with lab:
            demo = Demo(lab, report, args.quick)
            report.heading("Raising the lab")
            raised = False
            with report.check("two nodes with CNI chain, agent and ztunnel; control plane; pods") as c:
                demo.scene.raise_mesh(ZTUNNEL_ENV)
                demo.scene.raise_pods()
                c.saw(f"{len(lab.pods)} pods on {len(lab.nodes)} nodes")
                raised = True
            if raised:
                for number in chosen:
                    for section in SECTIONS[number]:
                        section(demo)
            if args.keep and raised:
                report.progress(how_to_look(lab))
    except KeyboardInterrupt:
        print("\ninterrupted; everything the demo made is removed", file=sys.stderr)
        report.failed += 1
    except (LabError, Ended) as error:
        print(f"demo: {error}", file=sys.stderr)
        report.failed += 1
    if report.failed and not args.keep:
        report.progress(f"logs of this run: /var/tmp/culvert-{lab.name}-logs")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

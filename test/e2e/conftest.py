# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one enrolled mesh per module."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
from lab.lab import Lab   # noqa: E402
from lab.scene import Scene   # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitized: also run with the ASan binaries")


@pytest.fixture(scope="module")
def mesh(request):
    """An enrolled mesh (Scene). A module may set ZTUNNEL_ENV for its ztunnels."""
    with Lab("e2e") as lab:
        scene = Scene(lab)
        scene.raise_mesh(getattr(request.module, "ZTUNNEL_ENV", {}))
        scene.raise_pods()
        scene.enrol_production()
        yield scene
        programs = [lab.culvertd] + [n.agent for n in lab.nodes] + [z.program for n in lab.nodes for z in n.ztunnels]
        cries = [f"{p.name}: {line}" for p in programs for line in p.log().splitlines()
                 if "AddressSanitizer" in line or "runtime error:" in line or "CHECK failed" in line]
        assert not cries, cries[:3]


@pytest.fixture
def policies(mesh):
    """Writes policies that are gone after the test."""
    names = []

    def write(name, kind, spec, **more):
        names.append((name, more.get("namespace", "production")))
        return mesh.policy(name, kind, spec, **more)

    yield write
    for name, namespace in names:
        mesh.drop_policy(name, namespace)

"""Tests in a session of envctl. Being attached is an open pipe to a child that is attached: the kernel closes it with this process."""

import json
import os
import subprocess

import pytest


class Session:
    """What the session exports; `exports` is all of it."""

    def __init__(self, exports):
        self.exports = exports
        self.id = exports["ENVCTL_SESSION"]
        self.namespace = exports["ENVCTL_SESSION_NAMESPACE"]
        self.kubeconfig = exports["KUBECONFIG"]

    def export(self, name):
        try:
            return self.exports[name]
        except KeyError:
            known = ", ".join(sorted(self.exports))
            raise LookupError(f"session {self.id} exports no {name}; it exports: {known}") from None

    def url(self, service, port=None):
        """The URL of a service's http port as seen from here; of several ports, the one named."""
        return self.export("_".join(part.upper().replace("-", "_") for part in (service, port, "url") if part))


@pytest.fixture(scope="session")
def envctl_session():
    """The session, in use until the last test of this process has ended."""
    program = os.environ.get("ENVCTL") or "envctl"
    # The child takes the attachment over and keeps it until its input ends; Ctrl-C is for the tests only.
    script = '"$0" env --format json && exec cat >/dev/null'
    child = subprocess.Popen(
        [program, "run", "--shared", "--", "sh", "-c", script, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        lines = []
        for line in child.stdout:
            lines.append(line)
            if line == "}\n":
                break
        else:
            pytest.exit(f"`{program} run --shared` failed with {child.wait()}; standard error says why", returncode=125)
        yield Session(json.loads("".join(lines)))


@pytest.fixture(scope="session")
def envctl_url(envctl_session):
    """`envctl_url("api")`: the URL of a service."""
    return envctl_session.url


@pytest.fixture(scope="session")
def envctl_key(envctl_session):
    """`envctl_key("API_KEY")`: an issued key."""
    return envctl_session.export

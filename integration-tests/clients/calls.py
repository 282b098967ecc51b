"""What the suites in Python share: calls are counted, waited for, and refused as they must be."""

import json
import time

from kubernetes.client.exceptions import ApiException

SOON = 60
_n = 0


def call(what, got, want=True):
    """One call more, and its answer."""
    global _n
    _n += 1
    assert got == want, f"{what}: {got!r}, not {want!r}"


def until(what, look, want=True):
    """Waits for a value."""
    ends = time.monotonic() + SOON
    while (got := look()) != want:
        assert time.monotonic() < ends, f"{what}: {got!r}, not {want!r}"
        time.sleep(0.05)
    call(what, got, want)


def refused(what, code, reason, act):
    """A call that is refused with this code and reason."""
    try:
        act()
    except ApiException as err:
        call(what, (err.status, json.loads(err.body)["reason"]), (code, reason))
    else:
        raise AssertionError(f"{what}: it was not refused")


def count():
    """How many distinct calls there were."""
    return _n

import itertools
import re

import pytest
from contract_support import TARGETS, Api

# Downloaded sources of the vendor, run in an environment of their own.
collect_ignore = ["vendor"]

_numbers = itertools.count()


@pytest.fixture(scope="session", params=sorted(TARGETS))
def target(request, tmp_path_factory):
    with TARGETS[request.param](tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture(scope="session")
def api(target):
    client = Api(target)
    yield client
    client.close()


@pytest.fixture
def ns(request, api):
    """The name of a namespace that does not exist yet; deleted afterwards."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:80] + f"-{next(_numbers)}"
    yield name
    api.call("DELETE", f"/v2/namespaces/{name}")


@pytest.fixture(scope="session")
def control(target):
    """The origin's control route behind the target."""
    if target.control_url is None:
        pytest.skip("the target has no control route")
    client = Api(type(target)("control", target.control_url, token=target.token))
    yield client
    client.close()

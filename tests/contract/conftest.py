import itertools
import re
from dataclasses import replace

import pytest
from contract_support import SMALL_RUN_TARGETS, TARGETS, Api

# Downloaded sources of the vendor, run in an environment of their own.
collect_ignore = ["vendor"]

_numbers = itertools.count()


SMALL_RUN_MODULES = frozenset({"test_contract_transport", "test_contract_namespaces"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out of the small runs what does not depend on how a request comes in."""
    items[:] = [item for item in items if not is_left_out(item)]


def is_left_out(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    target = callspec.params.get("target") if callspec else None
    return target in SMALL_RUN_TARGETS and item.module.__name__ not in SMALL_RUN_MODULES


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
    client = Api(replace(target, name="control", base_url=target.control_url, is_gateway=False))
    yield client
    client.close()

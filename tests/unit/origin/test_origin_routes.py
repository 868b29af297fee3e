import pytest

from hevlayer.origin.routes import ROUTE_NAMES, ROUTES, NamespaceNameError, match


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("region", ["", "/gcp-us-central1"])
def test_every_route_is_found_by_its_own_path(route, region):
    path = "/" + "/".join({"{namespace}": "ns.1_a-B", "{token}": "t0"}.get(part, part) for part in route.segments)
    found = match(route.method, region + path)
    assert found is not None
    assert (found.route, found.path) == (route, path)
    assert found.namespace == ("ns.1_a-B" if "{namespace}" in route.segments else "")


def test_names_are_unique():
    assert len(ROUTE_NAMES) == len(ROUTES)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/v1/namespaces/a"),
        ("GET", "/v1/namespaces/a"),
        ("POST", "/v1/namespaces/a"),
        ("POST", "/v1/vectors/a/query"),
        ("PUT", "/v2/namespaces/a"),
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/v3/namespaces"),
        ("GET", "/v1/namespaces/"),
        ("GET", "/v1/namespaces/a/schema/"),
        ("GET", "/one/two/v1/namespaces"),
        ("GET", "/v1/v1/namespaces"),
        ("POST", "/v2/namespaces/a/query/x"),
    ],
)
def test_what_the_api_does_not_have_is_not_found(method, path):
    assert match(method, path) is None


def test_a_name_is_decoded_before_it_is_checked():
    found = match("GET", "/v1/namespaces/%61%2Eb/schema")
    assert found is not None
    assert found.path == "/v1/namespaces/a.b/schema"


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "%C3%A7", "%FF", "a:b", "%0A", "a%0A", "", "a%"])
def test_other_characters_are_refused(name):
    with pytest.raises(NamespaceNameError) as caught:
        match("POST", f"/v2/namespaces/{name}/query")
    assert str(caught.value) == "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"


def test_a_name_has_at_most_128_characters():
    assert match("DELETE", f"/v2/namespaces/{'n' * 128}") is not None
    with pytest.raises(NamespaceNameError) as caught:
        match("DELETE", f"/v2/namespaces/{'n' * 129}")
    assert str(caught.value) == (f"Invalid URL: Namespace `{'n' * 129}` is too long, limit is currently 128 characters")

"""Where credentials come from: an instance's role, or nowhere; and that they are looked for again."""

import json

import pytest
from s3_server import ACCESS_KEY, SECRET_KEY

from hevlayer.http.messages import Request, Response
from hevlayer.http.server import serve
from hevlayer.stores.objects import ObjectStoreDeniedError

ROLE = "layer-gateway"


@pytest.fixture
async def metadata_service(credentials):
    """An instance metadata service that hands out the server's own key, and the paths that were asked for."""
    asked = []

    async def answer(request: Request) -> Response:
        asked.append((request.method, request.path))
        if request.method == "PUT" and request.path == "/latest/api/token":
            return Response(200, body=b"session")
        if request.header(b"x-aws-ec2-metadata-token") != b"session":
            return Response(401)
        if request.path.endswith("/security-credentials/"):
            return Response(200, body=ROLE.encode())
        keys = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": ACCESS_KEY,
            "SecretAccessKey": SECRET_KEY,
            "Token": "",
            "LastUpdated": "2026-01-01T00:00:00Z",
            "Expiration": "2126-01-01T00:00:00Z",
        }
        return Response(200, body=json.dumps(keys).encode())

    server = await serve(answer, host="127.0.0.1", port=0)
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.delenv("AWS_SECRET_ACCESS_KEY")
    credentials.delenv("AWS_EC2_METADATA_DISABLED")
    credentials.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.port}")
    yield asked
    await server.close()


async def test_an_instance_s_role(make_s3, metadata_service):
    store = make_s3()
    assert await store.put_if_absent("a/b", b"by role")
    assert await store.get("a/b") == b"by role"
    assert ("GET", f"/latest/meta-data/iam/security-credentials/{ROLE}") in metadata_service


async def test_without_credentials_it_says_so_and_looks_again(make_s3, credentials):
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.delenv("AWS_SECRET_ACCESS_KEY")
    store = make_s3()
    with pytest.raises(ObjectStoreDeniedError, match="no AWS credentials"):
        await store.put("a/b", b"")
    credentials.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    credentials.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    await store.put("a/b", b"found")
    assert await store.get("a/b") == b"found"

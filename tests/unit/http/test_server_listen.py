import pytest

from hevlayer.http.messages import Response
from hevlayer.http.server import serve


async def answer(_request):
    return Response(200, [], b"")


async def test_an_address_that_is_taken_is_named():
    server = await serve(answer)
    try:
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: Address already in use"):
            await serve(answer, port=server.port)
    finally:
        await server.close()


async def test_an_address_of_another_machine_is_named():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        await serve(answer, host="192.0.2.1")

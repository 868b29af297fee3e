import pytest
from client_stage import Face, RecordingServer

VARIABLES = ("LAYER_GATEWAY_URL", "LAYER_GATEWAY_API_KEY", "TURBOPUFFER_API_KEY", "TURBOPUFFER_API_URL")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve():
    """Starts recording servers, and stops them."""
    servers = []

    def start(*acts):
        servers.append(RecordingServer(*acts))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=["async", "sync"])
async def open_client(request):
    """Opens clients of each class, and closes them."""
    faces = []

    def open_at(url, **options):
        faces.append(Face(request.param, base_url=url, **options))
        return faces[-1]

    yield open_at
    for face in faces:
        await face.end()

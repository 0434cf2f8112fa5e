"""The compose files: what the specification's own schema says of them, and that they fit what they start."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE, WORKERS = DEPLOY / "compose.yaml", DEPLOY / "celery" / "compose.yaml"
IMAGE_HOME = "/opt/dagster/dagster_home"


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def services() -> dict[str, dict[str, Any]]:
    """Those of both files, as compose puts the second over the first."""
    merged = {name: dict(service) for name, service in loaded(BASE)["services"].items()}
    for name, over in loaded(WORKERS)["services"].items():
        service = merged.setdefault(name, {})
        mounts = {mount.split(":")[1]: mount for mount in [*service.get("volumes", []), *over.get("volumes", [])]}
        environment = service.get("environment", {}) | over.get("environment", {})
        merged[name] = service | over | {"volumes": list(mounts.values()), "environment": environment}
    return merged


@pytest.mark.parametrize("path", [BASE, WORKERS], ids=lambda path: path.parent.name)
def test_a_compose_file_is_what_the_specification_allows(path) -> None:
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(loaded(path))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    wrong = loaded(BASE)
    wrong["services"]["daemon"]["restarts"] = "always"
    with pytest.raises(jsonschema.ValidationError, match="restarts"):
        jsonschema.Draft202012Validator(json.loads(vendored.read_text("utf-8"))).validate(wrong)


def test_what_is_mounted_is_there() -> None:
    """Paths of both files are relative to the folder of the first."""
    volumes = {*loaded(BASE)["volumes"], *loaded(WORKERS)["volumes"]}
    for service in services().values():
        for mount in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
            assert source in volumes or (DEPLOY / source).is_file(), mount


def test_who_waits_waits_for_somebody() -> None:
    for service in services().values():
        for name, condition in service.get("depends_on", {}).items():
            waited_for = services()[name]
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in waited_for
            else:
                assert waited_for["restart"] == "no"  # else it would never have ended


def test_each_variable_without_a_default_is_in_the_example_and_no_secret_is_written_down() -> None:
    texts = BASE.read_text("utf-8") + WORKERS.read_text("utf-8")
    needed = set(re.findall(r"(?<!\$)\$\{(\w+):\?", texts))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert needed == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert {name: example[name] for name in needed} == dict.fromkeys(needed, "")
    given = [pair for service in services().values() for pair in service.get("environment", {}).items()]
    secrets = {str(value) for name, value in given if "PASSWORD" in name or "BROKER" in name}
    assert secrets
    assert all(value.startswith("${") for value in secrets)
    ignored = (DEPLOY.parent / ".gitignore").read_text("utf-8").split()
    assert {"/deploy/.env", "/deploy/aws.env"} <= set(ignored)


def test_only_the_page_is_reachable_from_outside_and_only_from_the_machine_itself() -> None:
    """It has no login."""
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"webserver": ["${PAGE_ADDRESS:-127.0.0.1:3000}:3000"]}


def test_all_of_dagster_has_one_instance_and_one_image() -> None:
    ours = {name: service for name, service in services().items() if "tamarin-dagster" in service["image"]}
    assert set(ours) == {"migrate", "code-location", "webserver", "daemon", "worker"}
    for service in ours.values():
        assert f"./celery/dagster.yaml:{IMAGE_HOME}/dagster.yaml:ro" in service["volumes"]
        assert {"TAMARIN_DATABASE_URL", "TAMARIN_DAGSTER_DATABASE_URL", "PGPASSWORD"} <= set(service["environment"])
        assert service["environment"]["TAMARIN_BROKER_URL"]


def test_the_workspace_leads_to_the_code_location() -> None:
    (entry,) = loaded(DEPLOY / "workspace.yaml")["load_from"]
    command = loaded(BASE)["services"]["code-location"]["command"]
    assert entry["grpc_server"]["host"] == "code-location"
    assert str(entry["grpc_server"]["port"]) == command[command.index("--port") + 1]
    assert entry["grpc_server"]["location_name"] == "tamarin_dagster"

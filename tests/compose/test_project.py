"""Which files, which name, which services."""

from pathlib import Path
from textwrap import dedent

import pytest

from sampan.compose.document import ComposeError
from sampan.compose.objects import convert
from sampan.compose.project import find_files, load, read_name
from tests.compose.support import container, objects, pod, project, refusals


def write(directory: Path, **files: str) -> list[Path]:
    """Files named by keyword, `_` for the dot: they return in order."""
    paths = []
    for name, text in files.items():
        path = directory / name.replace("_", ".", 1)
        path.write_text(dedent(text))
        paths.append(path)
    return paths


def test_the_files_of_a_directory_are_found_with_their_override(tmp_path: Path) -> None:
    assert find_files(tmp_path) == []
    for name in ("docker-compose.yml", "compose.yaml", "compose.override.yml"):
        (tmp_path / name).write_text("")
    assert [p.name for p in find_files(tmp_path)] == ["compose.yaml", "compose.override.yml"]


def test_the_name_comes_from_the_option_the_environment_the_file_and_the_directory(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "My_App.v2"
    directory.mkdir()
    [plain] = write(directory, a_yaml="services: {web: {image: x}}")
    [named] = write(directory, b_yaml="name: from-file\nservices: {web: {image: x}}")
    env = {"COMPOSE_PROJECT_NAME": "from_env"}
    assert load([named], name="option", env=env).name == "option"
    assert load([named], env=env).name == "from-env"
    assert load([named], env={}).name == "from-file"
    assert load([plain], env={}).name == "my-app-v2"
    assert read_name([named], env={}) == "from-file"


@pytest.mark.parametrize("name", ["default", "kube-system", "ümlaut", "-"])
def test_a_name_that_cannot_be_a_stacks_is_refused(tmp_path: Path, name: str) -> None:
    assert "name" in refusals(tmp_path, "services: {web: {image: x}}", name=name)[0]


def test_the_projects_dotenv_gives_variables_and_the_shell_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAG=1\nNAME=web\n")
    made = objects(tmp_path, "services: {web: {image: '$NAME:$TAG'}}", env={"TAG": "2"})
    assert container(made)["image"] == "web:2"


def test_a_variable_that_is_not_set_is_a_warning_with_its_line(tmp_path: Path) -> None:
    loaded = project(tmp_path, "services:\n  web:\n    image: x$TAG\n")
    [warning] = loaded.warnings
    assert (warning.at.line, "TAG" in warning.text) == (3, True)


def test_later_files_win_lists_grow_and_commands_are_replaced(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        a_yaml="""
            services:
              web:
                image: web:1
                command: [one, two]
                environment: [A=1, B=1]
                ports: ["80"]
                volumes: ["/a:/x", "/b:/y"]
                labels: {tier: front}
                depends_on: [db]
              db: {image: "db:1"}
            """,
        b_yaml="""
            services:
              web:
                image: web:2
                command: [three]
                environment: {B: 2, C: 3}
                ports: ["80", "81"]
                volumes: ["/c:/x"]
                depends_on: {cache: {condition: service_started}}
              cache: {image: "cache:1"}
            """,
    )
    made = {f"{o['kind']}/{o['metadata']['name']}": o for o in convert(load(files, env={}))}
    web = container(made)
    assert web["image"] == "web:2"
    assert web["args"] == ["three"]
    assert {e["name"]: e["value"] for e in web["env"]} == {"A": "1", "B": "2", "C": "3"}
    assert [p["port"] for p in made["Service/web"]["spec"]["ports"]] == [80, 81]
    paths = [v["hostPath"]["path"] for v in pod(made)["volumes"]]
    assert paths == ["/c", "/b"]
    template = made["Deployment/web"]["spec"]["template"]["metadata"]
    assert template["labels"]["tier"] == "front"
    assert template["annotations"]["sampan.io/after"] == "db=started,cache=started"


def test_a_service_extends_another_of_the_same_file_and_of_another(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "env").write_text("FROM=base")
    write(
        tmp_path / "base",
        common_yaml="""
            services:
              common: {image: "common:1", env_file: env, environment: {A: 1, B: 1}}
            """,
    )
    made = objects(
        tmp_path,
        """
        services:
          middle:
            extends: {service: common, file: base/common.yaml}
            environment: {B: 2}
          web:
            extends: middle
            command: run
        """,
    )
    web = container(made)
    assert (web["image"], web["args"]) == ("common:1", ["run"])
    assert {e["name"]: e["value"] for e in web["env"]} == {"FROM": "base", "A": "1", "B": "2"}


def test_extending_what_is_not_there_or_oneself_is_refused(tmp_path: Path) -> None:
    text = "services:\n  web:\n    image: x\n    extends: {}\n"
    assert (
        "4: services.web.extends: there is no service 'no'"
        in (refusals(tmp_path, text.format("no"))[0])
    )
    loop = "services:\n  a: {image: x, extends: b}\n  b: {image: x, extends: a}\n"
    assert any("extends itself" in problem for problem in refusals(tmp_path, loop))


def test_a_key_that_is_refused_is_refused_in_an_extended_file_too(tmp_path: Path) -> None:
    write(tmp_path, other_yaml="services:\n  base:\n    image: x\n    ulimits: {nofile: 1}\n")
    with pytest.raises(ComposeError) as error:
        project(tmp_path, "services: {web: {extends: {service: base, file: other.yaml}}}")
    [problem] = error.value.problems
    assert (problem.at.file.name, problem.at.line) == ("other.yaml", 4)


def test_an_included_file_brings_its_services_with_its_own_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "text").write_text("inner")
    write(
        tmp_path / "sub",
        inner_yaml="""
            services: {db: {image: "db:1", configs: [text]}}
            configs: {text: {file: ./text}}
            """,
    )
    made = objects(tmp_path, "include: [sub/inner.yaml]\nservices: {web: {image: x}}\n")
    assert {"Deployment/db", "Deployment/web"} <= made.keys()
    [config] = [obj for key, obj in made.items() if key.startswith("ConfigMap/")]
    assert config["data"] == {"f0": "inner"}


def test_including_oneself_or_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    itself = "include: [compose.yaml]\nservices: {web: {image: x}}\n"
    assert "includes itself" in refusals(tmp_path, itself)[0]
    write(tmp_path, other_yaml="services: {web: {image: y}}")
    twice = "include: [other.yaml]\nservices: {web: {image: x}}\n"
    assert "compose.yaml:2 too" in refusals(tmp_path, twice)[0]


def test_services_of_a_profile_come_only_when_it_is_active(tmp_path: Path) -> None:
    text = "services: {web: {image: x}, debug: {image: y, profiles: [tools]}}"
    assert list(project(tmp_path, text).services) == ["web"]
    assert "debug" in project(tmp_path, text, profiles=["tools"]).services
    assert "debug" in project(tmp_path, text, env={"COMPOSE_PROFILES": "a,tools"}).services


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "there are no services"),
        ("services:\n", "there are no services"),
        ("- a\n", "a Compose file is a mapping"),
        ("services:\n  web: nginx\n", "2: services.web: must be a mapping"),
        ("services:\n  web: {}\n", "2: services.web: `image` is missing"),
        ("services: {web: {image: x}}\nservces: {}\n", "did you mean services?"),
    ],
)
def test_a_file_of_the_wrong_shape_says_what_is_missing(
    tmp_path: Path, text: str, message: str
) -> None:
    assert message in refusals(tmp_path, text)[0]


def test_extensions_are_allowed_everywhere(tmp_path: Path) -> None:
    text = """
    x-common: &common {image: "web:1", x-note: 1}
    services:
      web: {<<: *common, deploy: {x-y: 1}}
    """
    assert container(objects(tmp_path, text))["image"] == "web:1"


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = "services:\n  a:\n    image: x\n    gpus: all\n  b:\n    image: y\n    runtime: z\n"
    assert [problem[0] for problem in refusals(tmp_path, text)] == ["4", "7"]

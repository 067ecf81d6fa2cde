import pytest

from sampan.api.images import normalised


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("web", "docker.io/library/web:latest"),
        ("web:1", "docker.io/library/web:1"),
        ("team/web", "docker.io/team/web:latest"),
        ("index.docker.io/web", "docker.io/library/web:latest"),
        ("localhost/web:1", "localhost/web:1"),
        ("127.0.0.1:5000/web", "127.0.0.1:5000/web:latest"),
        ("reg.example/a/b@sha256:" + "0" * 64, "reg.example/a/b@sha256:" + "0" * 64),
    ],
)
def test_names_are_written_in_full_as_the_runtime_compares_them(short: str, full: str) -> None:
    assert normalised(short) == full
    assert normalised(full) == full

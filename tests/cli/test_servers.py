"""Which server a command is for, and which secrets go there: options, the environment and `.env`, without any server."""

import pytest

from mimic_assets.cli.servers import name_server


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("MIMIC_SERVER", "MIMIC_SERVER_TOKEN", "MIMIC_SERVER_HEADER", "MIMIC_USER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:3000", "expected the URL of a Dagster webserver such as https://"),
        ("http://", "expected the URL"),
        ("http://[::1", "expected the URL"),
        ("http://localhost:port", "expected the URL"),
        ("http://localhost/?token=secret", "expected the URL"),
        ("http://me:secret@localhost", "seen by others"),
        ("ftp://me:secret@localhost", "seen by others"),
        ("me:secret@localhost", "seen by others"),
        ("http://me:secret@[::1", "seen by others"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused_and_its_secrets_are_not_shown(url, words, mimic, monkeypatch):
    for command in (["status"], ["gc"]):
        said = mimic.refused("--server", url, *command)
        assert words in said
        assert "secret" not in said
        monkeypatch.setenv("MIMIC_SERVER", url)
        assert mimic.refused(*command) == said
        monkeypatch.delenv("MIMIC_SERVER")


def test_secrets_are_taken_from_where_the_url_is(folder, monkeypatch):
    (folder / ".env").write_text("MIMIC_SERVER=https://evil\nMIMIC_SERVER_HEADER=X-Name: of the file\nMIMIC_USER=ada\n")
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", "of-the-shell")
    named = name_server(None, None)
    assert (named.url, named.token, named.header, named.user) == ("https://evil", "", "X-Name: of the file", "ada")
    named = name_server("https://good", None)  # whoever gives an option knows both
    assert (named.token, named.header) == ("of-the-shell", "X-Name: of the file")
    monkeypatch.setenv("MIMIC_SERVER", "https://good")
    named = name_server(None, "me")
    assert (named.url, named.token, named.header, named.user) == ("https://good", "of-the-shell", "", "me")
    assert "of-the-shell" not in repr(named)
    assert name_server("", None) is None


def test_a_file_gets_nothing_of_the_environment_into_a_url(folder, monkeypatch):
    (folder / ".env").write_text("MIMIC_SERVER=https://evil/${MIMIC_SERVER_TOKEN}\n")
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", "secret")
    assert name_server(None, None).url == "https://evil/${MIMIC_SERVER_TOKEN}"


def test_a_file_of_settings_that_cannot_be_read_is_named(folder, mimic):
    (mimic.home / ".env").write_bytes(b"MIMIC_USER=\xff\n")
    for command in (["status"], ["tables", "list"], ["--server", "http://127.0.0.1:9", "status"]):
        said = mimic.refused(*command)
        assert said.startswith(f"mimic: {mimic.home}/.env: cannot be read: 'utf-8' codec can't decode byte 0xff")
        assert said.endswith("; mend it, or run mimic in another folder\n")


def test_the_help_of_every_command_is_shown_whatever_server_is_named(mimic, monkeypatch):
    monkeypatch.setenv("MIMIC_SERVER", "http://127.0.0.1:9")
    for command in (["tables", "import", "--help"], ["gc", "-h"], ["runs", "--help"]):
        assert mimic(*command).stdout.startswith(f"Usage: mimic {' '.join(command[:-1])}")

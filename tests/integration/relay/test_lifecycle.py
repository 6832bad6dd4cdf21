"""Start, reload and end of the process: what it refuses, what it keeps, and how it leaves."""
from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.relay.lab import (
    OTHER_TOKEN,
    ROOT,
    SECONDS,
    TOKEN,
    RelayProcess,
    Settings,
    Tls,
    Upstream,
    ask,
    open_plain,
    open_tls,
    preface,
    read_response,
    rest_until_end,
    running_relay,
    sha,
    tunnel,
)
from tests.support.certificates import authority, stranger

NAMED = 'server_name = "localhost"\n'


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "relay", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def prepared(folder: Path, **changes: object) -> Path:
    authority().issue().write(folder, "relay")
    path = folder / "relay.toml"
    text = Settings([Upstream("a", 993)]).toml()
    for old, new in changes.get("replace", {}).items():  # type: ignore[attr-defined]
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_token_prints_a_token_once_and_its_hash(tmp_path: Path) -> None:
    done = run("token", "worker-9")
    token = re.search(r"rt1\.worker-9\.[A-Za-z0-9_-]{43}", done.stdout)
    assert done.returncode == 0 and token is not None and f'token_sha256 = "{sha(token[0])}"' in done.stdout
    row = json.loads(run("token", "worker-9", "--json").stdout)
    assert row["token_sha256"] == sha(row["token"]) and row["token"] != token[0]
    refused = run("token", "Worker 9")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize(("prepare", "key"), [
    ({"replace": {'listen_plaintext = ["127.0.0.1:0"]': 'listen_plaintext = ["0.0.0.0:0"]'}}, "relay.listen_plaintext"),
    ({"replace": {sha(TOKEN): "x"}}, "clients.worker-1.token_sha256"),
    ({"replace": {"[[clients]]": "[[people]]"}}, "clients"),
    ({"replace": {'key = "relay.key"': 'key = "relay.pem"'}}, "relay.key"),  # a certificate file (mode 644) in the key's place
])
def test_a_bad_configuration_does_not_start_and_says_why(tmp_path: Path, command: str, prepare: dict[str, object], key: str) -> None:
    done = run(command, "--config", str(prepared(tmp_path, **prepare)))
    assert done.returncode == 2 and f"relay.toml: {key}: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("file", "mode", "key"), [("relay.toml", 0o620, "-"), ("relay.toml", 0o602, "-"),
                                                   ("relay.key", 0o604, "relay.key")])
def test_files_with_wrong_modes_do_not_start(tmp_path: Path, file: str, mode: int, key: str) -> None:
    config = prepared(tmp_path)
    (tmp_path / file).chmod(mode)
    done = run("serve", "--config", str(config))
    assert done.returncode == 2 and f": {key}: " in done.stderr and "chmod" in done.stderr


def test_a_key_of_another_certificate_is_named_without_asking_at_the_terminal(tmp_path: Path) -> None:
    config = prepared(tmp_path)
    stranger().issue().write(tmp_path / "other", "relay")
    (tmp_path / "other" / "relay.key").rename(tmp_path / "relay.key")
    done = run("check-config", "--config", str(config), "--json")
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == 2 and [one["key"] for one in problems] == ["relay.certificate"]


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = prepared(tmp_path, replace={'listen = ["127.0.0.1:0"]': f'listen = ["127.0.0.1:{taken.getsockname()[1]}"]'})
        done = run("serve", "--config", str(config))
    assert done.returncode == 2 and "relay.listen" in done.stderr


def test_check_config_accepts_what_serve_accepts(tmp_path: Path) -> None:
    done = run("check-config", "--config", str(prepared(tmp_path)), "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"ok": True, "problems": [], "warnings": []}


def site(server: Tls, **changes: object) -> Settings:
    return Settings([Upstream("echo", server.port, extra=NAMED)], **changes)  # type: ignore[arg-type]


def talks(tls: socket.socket) -> bool:
    tls.sendall(b"ping")
    return tls.recv(100) == b"ping"


def test_sigterm_lets_a_running_session_end_takes_no_new_one_and_exits_0(tmp_path: Path) -> None:
    with Tls() as server, running_relay(tmp_path, site(server, limits={"drain_seconds": 60})) as relay:
        with tunnel(relay, server.target) as tls, open_tls(relay) as waiting:
            waiting.sendall(b"CONNECT ")
            relay.signal(signal.SIGTERM)
            relay.event("draining")
            assert talks(tls)
            with pytest.raises(ConnectionRefusedError):
                open_plain(relay).close()
            # one that was already connected learns why
            waiting.sendall(preface(server.target).removeprefix(b"CONNECT "))
            response = read_response(waiting)
            assert (response.status, response.error) == (503, "draining")
            assert talks(tls)
        assert relay.process.wait(SECONDS) == 0
        assert relay.event("session")["reason"] == "client-closed" and relay.event("stopped")


def test_a_session_that_does_not_end_is_cut_at_the_deadline(tmp_path: Path) -> None:
    with Tls() as server, running_relay(tmp_path, site(server, limits={"drain_seconds": 1})) as relay, tunnel(relay, server.target) as tls:
        relay.signal(signal.SIGTERM)
        began = time.monotonic()
        assert rest_until_end(tls) == b""
        assert relay.process.wait(SECONDS) == 0 and 0.9 < time.monotonic() - began < 6
        assert relay.event("session")["reason"] == "drained"


def test_a_second_signal_cuts_at_once(tmp_path: Path) -> None:
    patient = {"drain_seconds": 600}
    with Tls() as server, running_relay(tmp_path, site(server, limits=patient)) as relay, tunnel(relay, server.target) as tls:
        relay.signal(signal.SIGINT)
        relay.event("draining")
        relay.signal(signal.SIGINT)
        assert rest_until_end(tls) == b"" and relay.process.wait(SECONDS) == 0


def test_sighup_takes_a_good_file_and_keeps_sessions_that_are_still_allowed(tmp_path: Path) -> None:
    with Tls() as server, Tls() as more, running_relay(tmp_path, site(server)) as relay, tunnel(relay, server.target) as tls:
        assert ask(relay, preface(more.target)).status == 403
        relay.write(Settings([Upstream("echo", server.port, extra=NAMED), Upstream("more", more.port, extra=NAMED)]))
        relay.signal(signal.SIGHUP)
        assert relay.event("reload")["upstreams"] == 2
        assert ask(relay, preface(more.target)).status == 200
        assert talks(tls)


def test_sighup_refuses_a_bad_file_and_the_old_one_stays(tmp_path: Path) -> None:
    with Tls() as server, running_relay(tmp_path, site(server)) as relay, tunnel(relay, server.target) as tls:
        for count, text in enumerate(("[relay", site(server).toml().replace('"echo"', '"E"'),
                                      site(server).toml().replace('listen = ["127.0.0.1:0"]', 'listen = ["127.0.0.1:1"]')), 1):
            relay.config.write_text(text)
            relay.signal(signal.SIGHUP)
            relay.event("reload-refused", lambda row, count=count: relay.events.count(row) == 1 and len(
                [one for one in relay.events if one["event"] == "reload-refused"]) >= count)
            assert ask(relay, preface(server.target)).status == 200 and talks(tls)


@pytest.mark.parametrize("change", ["client", "token", "upstream"])
def test_sighup_ends_sessions_that_are_no_longer_allowed(tmp_path: Path, change: str) -> None:
    with Tls() as server, running_relay(tmp_path, site(server)) as relay, tunnel(relay, server.target) as tls:
        assert talks(tls)
        text = site(server).toml()
        relay.config.write_text({
            "client": text.replace('"worker-1"', '"worker-2"').replace(sha(TOKEN), sha(OTHER_TOKEN)),
            "token": text.replace(sha(TOKEN), sha(OTHER_TOKEN)),
            "upstream": text.replace(str(server.port), "993"),
        }[change])
        relay.signal(signal.SIGHUP)
        assert relay.event("reload")["revoked"] == 1
        assert rest_until_end(tls) == b"" and relay.event("session")["reason"] == "revoked"


def test_a_client_whose_time_is_over_is_cut(tmp_path: Path) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    with Tls() as server, running_relay(tmp_path, site(server, worker=f"expires = {soon}")) as relay:
        with tunnel(relay, server.target) as tls:
            assert talks(tls)
            assert rest_until_end(tls) == b"" and relay.event("session")["reason"] == "expired"
        assert ask(relay, preface(server.target)).status == 407


def test_a_new_certificate_is_used_after_sighup(tmp_path: Path) -> None:
    with Tls() as server, running_relay(tmp_path, site(server)) as relay:
        before = fingerprint(relay)
        authority().issue().write(tmp_path, "relay")
        assert fingerprint(relay) == before
        relay.signal(signal.SIGHUP)
        relay.event("reload")
        assert fingerprint(relay) != before


def fingerprint(relay: RelayProcess) -> bytes:
    with open_tls(relay) as sock:
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None and sock.selected_alpn_protocol() in (None, "http/1.1")
        return certificate


def test_the_process_leaves_no_core_and_shows_no_token(tmp_path: Path) -> None:
    with Tls() as server, running_relay(tmp_path, site(server)) as relay:
        assert ask(relay, preface(server.target)).status == 200
        proc = Path(f"/proc/{relay.process.pid}")
        assert "Max core file size        0                    0" in (proc / "limits").read_text()
        secret = TOKEN.rpartition(".")[2].encode()
        assert secret not in (proc / "cmdline").read_bytes()
        assert secret.decode() not in "".join(relay.raw)

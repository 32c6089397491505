"""Keys, certificates and redirects."""

import asyncio
import logging
import ssl
import subprocess
from pathlib import Path

import pytest

from bench.backends.openai.client import Client
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.events import Answer, Ask
from tests.bench.backends.openai.asking import KNOBS, ask_all, ask_one, reason
from tests.bench.backends.openai.scripted_server import (
    DONE,
    refuses,
    sends,
    serving,
    text_event,
)

VARIABLE, KEY = "MY_ENDPOINT", "k3y-of-mine-0123456789"
GOOD = sends(text_event("four", finish="stop", usage=2), DONE)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, KEY)
    return VARIABLE


def test_the_key_is_sent_and_nowhere_else(key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = {
        "good": GOOD,
        "denied": refuses("401 Unauthorized", f'{{"error": "wrong key {KEY}"}}'.encode()),
        "echo": sends(text_event(f"your key is {KEY}", finish="stop")),
        "echo in an error": sends(f'data: {{"error": "not {KEY}"}}\n\n'.encode()),
    }
    answers, server = ask_all(scripts, list(scripts), key_variable=key)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert KEY not in repr(answers)
    assert KEY not in caplog.text
    assert answers[1].failure is not None
    assert answers[1].failure.detail == "wrong key [redacted]"
    assert answers[2].text == "your key is [redacted]"


def test_without_a_variable_no_key_is_sent() -> None:
    _, server = ask_all({"good": GOOD}, ["good"])
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("value", ["", "  ", "two\nlines", "clé"])
def test_a_variable_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=f"variable {VARIABLE} holds") as refused:
        Client("http://127.0.0.1:1/v1", KNOBS, key_variable=VARIABLE)
    assert not value.strip() or value not in str(refused.value)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(status: str, key: str) -> None:
    """The other server is never asked, so it never sees the key."""

    async def run() -> Answer:
        async with serving({"hi": GOOD}) as other:
            to = f"location: {other.url}/completions"
            async with (
                serving({"hi": refuses(status, b"", to)}) as server,
                Client(server.url, KNOBS, key_variable=key) as client,
            ):
                answer = await client.ask(Ask(0, "hi", 4))
            assert other.requests == []
        return answer

    answer = asyncio.run(run())
    assert reason(answer) == "redirect_refused"
    assert answer.failure is not None
    assert "/v1/completions" in answer.failure.detail


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert reason(ask_one(GOOD)) is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path.with_suffix(".crt"))),
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_certificates_are_checked(certificate: Path, key: str) -> None:
    public = certificate.with_suffix(".crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, certificate)

    async def run(host: str, tls: ssl.SSLContext | None) -> tuple[Answer, int]:
        async with serving({"hi": GOOD}, ssl_context=context) as server:
            url = f"https://{host}:{server.port}/v1"
            async with Client(url, KNOBS, key_variable=key, tls=tls) as client:
                answer = await client.ask(Ask(0, "hi", 4))
            return answer, len(server.requests)

    unknown, asked = asyncio.run(run("127.0.0.1", None))
    assert (reason(unknown), asked) == ("tls_refused", 0)
    trusting = ssl.create_default_context(cafile=str(public))
    assert reason(asyncio.run(run("127.0.0.1", trusting))[0]) is None
    wrong_name, asked = asyncio.run(run("localhost", trusting))
    assert (reason(wrong_name), asked) == ("tls_refused", 0)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "backend.url is"),
        ({"url": "ftp://here/v1"}, "valid: http"),
        ({"url": "http://me:secret1@here/v1"}, "holds a user"),
        ({"url": "http://here/v1?api_key=secret1"}, "holds a user, a query"),
        ({"url": "http://here:port/v1"}, "backend.url is no address"),
        ({"metrics_url": "here"}, "backend.metrics_url is"),
        ({"key_variable": "sk-secret1"}, "is no variable's name"),
        ({"connections": 0}, "backend.connections is 0; it must be >= 1"),
        ({"canvas_length": 0}, "backend.canvas_length is 0; it must be >= 1"),
        ({"rate_per_s": 0.0}, "backend.rate_per_s is 0.0; it must be > 0"),
        ({"max_denoising_steps": 0}, "backend.max_denoising_steps is 0; it must be >= 1"),
        ({"gap_s": 0.0}, "backend.gap_s is 0.0; it must be > 0"),
        ({"served_model": ""}, "backend.served_model is empty"),
    ],
)
def test_what_a_configuration_refuses(knobs: dict[str, object], words: str) -> None:
    usual: dict[str, object] = {"url": "http://127.0.0.1:8000/v1", "served_model": "dg"}
    OpenAiConfig(**usual)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words) as refused:
        OpenAiConfig(**(usual | knobs))  # type: ignore[arg-type]
    assert "secret1" not in str(refused.value)

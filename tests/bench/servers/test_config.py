"""Which launches are refused, and why."""

from typing import Any

import pytest

from bench.servers import Engine, LaunchConfig

GOOD = {"engine": Engine.vllm, "model": "m"}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"port": 70_000}, "port is 70000; valid: 0"),
        ({"ready_s": 0}, "ready_s is 0; it must be > 0"),
        ({"stop_s": -1}, "stop_s is -1; it must be > 0"),
        ({"max_denoising_steps": 0}, "max_denoising_steps is 0; it must be >= 1"),
        ({"early_stop": False}, "early_stop=false needs backend.launch.max_denoising_steps"),
        (
            {"engine": Engine.sglang, "max_denoising_steps": 8},
            "engine=sglang; valid: transformers, vllm",
        ),
        ({"engine": Engine.command}, "args is empty; engine=command"),
        ({"engine": Engine.command, "args": ["serve"]}, r"args have no \{port\}"),
        ({"args": ["--trust-remote-code"]}, "--trust-remote-code: .* never run"),
        ({"args": ["--trust_remote_code=true"]}, "never run"),
        ({"args": ["--host", "0.0.0.0"]}, "hold --host"),
        ({"args": ["--port=1"]}, "hold --port"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LaunchConfig(**(GOOD | knobs))


def test_no_secret_gets_into_a_configuration_or_into_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_API_KEY", "planted-secret")
    for args in (["--api-key", "s3cret"], ["--hf_token=s3cret"], ["--x", "planted-secret"]):
        with pytest.raises(ValueError, match="hold a secret") as found:
            LaunchConfig(**GOOD, args=args)
        assert "s3cret" not in str(found.value)
        assert "planted" not in str(found.value)


def test_a_command_may_say_where_it_listens() -> None:
    LaunchConfig(engine=Engine.command, args=["serve", "--host", "::1", "--port", "{port}"])
    LaunchConfig(engine=Engine.command, args=["serve"], port=8000)

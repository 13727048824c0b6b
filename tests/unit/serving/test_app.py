"""What a client meets: answers, refusals in one form, and models that change under it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from unroll.generation import SamplingSettings, TextGenerator
from unroll.prediction import SentimentPredictor
from unroll.serving.app import STATIC

TEXT = "The critics found it dull. I found it moving."
ODD_TEXTS = [
    "",
    " ",
    "😀👩‍👩‍👧",
    "שלום עולם سلام",
    "a\0b",
    "\u202e reversed",
    "<script>alert(1)</script>",
    "a" * 20_000,
]


@pytest.fixture
def client(serving: Callable[..., TestClient]) -> Iterator[TestClient]:
    with serving() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def classify(client: TestClient, *texts: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/sentiment", json={"texts": texts, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(body: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in body.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def metric(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_answers_are_the_predictors_own(client: TestClient, predictors: list[SentimentPredictor]) -> None:
    texts = [TEXT, "", "good"]
    answer = classify(client, *texts)
    assert answer["model"] == {"name": "reviews", "version": "1", "digest": "digest-1"}
    for prediction, probs in zip(answer["predictions"], predictors[0].predict(texts), strict=True):
        assert list(prediction["probabilities"]) == ["negative", "positive"]
        np.testing.assert_allclose(list(prediction["probabilities"].values()), probs, atol=1e-6)
        assert prediction["label"] == ["negative", "positive"][probs.argmax()]
        assert prediction["probability"] == max(prediction["probabilities"].values())
        assert prediction["tokens"] is None


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:12]))
def test_any_text_is_answered_and_explained(client: TestClient, text: str) -> None:
    (prediction,) = classify(client, text, explain=True)["predictions"]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)
    for token in prediction["tokens"]:
        assert token["text"] == text[token["start"] : token["stop"]]
        assert token["known"] or token["effect"] == 0


def test_no_texts_get_no_answers(client: TestClient) -> None:
    assert classify(client)["predictions"] == []


def test_what_is_not_explained_is_answered_and_says_why(
    client: TestClient, predictors: list[SentimentPredictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = classify(client, "good", "bad", explain=True)["predictions"]
    assert [each["not_explained"] for each in several] == ["One text at a time is explained; send each by itself."] * 2
    monkeypatch.setattr("unroll.occlusion.MAX_TOKENS", 3)
    (long,) = classify(client, TEXT, explain=True)["predictions"]
    assert "tokens, of at most 3" in long["not_explained"]
    assert long["probability"] == pytest.approx(predictors[0].predict([TEXT]).max(), abs=1e-6)


def test_a_text_is_the_generators_own(client: TestClient, generator: TextGenerator) -> None:
    settings = {"length": 40, "temperature": 0.7, "top_k": 5, "seed": 9}
    expected = "".join(generator.stream("The ", SamplingSettings(**settings)))  # type: ignore[arg-type]
    whole = client.post("/v1/generate", json={"prompt": "The ", **settings, "probabilities": True}).json()
    assert whole["text"] == expected
    assert whole["reason"] == "length"
    assert "".join(each["character"] for each in whole["characters"]) == expected
    for each in whole["characters"]:
        assert 0 < each["probability"] <= 1
        assert [other["probability"] for other in each["likeliest"]] == sorted(
            (other["probability"] for other in each["likeliest"]), reverse=True
        )
    streamed = client.post("/v1/generate", json={"prompt": "The ", **settings, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = events_of(streamed.text)
    assert events[0] == ("start", {"model": whole["model"], "unknown": []})
    assert "".join(data["text"] for name, data in events if name == "text") == expected
    assert events[-1][0] == "end"
    assert events[-1][1]["length"] == 40


def test_unknown_characters_of_a_prompt_are_named_and_a_stop_ends_the_text(client: TestClient) -> None:
    answer = client.post("/v1/generate", json={"prompt": "ж ж😀", "length": 500, "stop": ["e", " "]}).json()
    assert answer["unknown"] == ["ж", "😀"]
    assert answer["reason"] == "stop"
    assert answer["text"][-1] in "e "
    assert client.post("/v1/generate", json={"length": 0.0}).json()["text"] == ""


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("sentiment", b"", 422, "body is missing"),
        ("sentiment", b"{", 400, "no JSON"),
        ("sentiment", b'{"texts": ["\xff"]}', 400, "in UTF-8"),
        ("sentiment", b"[" * 100_000, 400, "cannot be read"),
        ("sentiment", b"{}", 422, "texts is missing"),
        ("sentiment", b'{"texts": "good"}', 422, 'texts is "good", expected a valid list'),
        ("sentiment", b'{"texts": [1, null]}', 422, "texts.0 is 1, expected a valid string; texts.1 is null"),
        ("sentiment", b'{"texts": ["\\ud800"]}', 422, "unicode"),
        ("sentiment", b'{"texts": [], "\\ud800": NaN}', 422, "unicode"),
        ("sentiment", b'{"texts": [], "text": NaN}', 422, "text is NaN, expected no field of this name"),
        ("sentiment", json.dumps({"texts": ["x"] * 10_000}).encode(), 422, "10,000 items long, expected at most 256"),
        ("sentiment", json.dumps({"texts": ["x" * 20_001]}).encode(), 422, "20,001 characters long"),
        ("sentiment", json.dumps({"texts": ["x" * 2**20]}).encode(), 413, "expected at most 1,048,576 bytes"),
        ("generate", b'{"temperature": NaN}', 422, "temperature is NaN, expected a finite number"),
        ("generate", b'{"top_p": Infinity, "min_p": -Infinity}', 422, "min_p is -Infinity"),
        ("generate", b'{"temperature": 1e999}', 422, "a finite number"),
        ("generate", b'{"length": 12.5}', 422, "length is 12.5, expected a valid integer"),
        ("generate", b'{"length": "12"}', 422, 'length is "12", expected a valid integer'),
        ("generate", b'{"length": 1000000000}', 422, "less than or equal to 10000"),
        ("generate", b'{"seed": -1}', 422, "greater than or equal to 0"),
        ("generate", b'{"seed": ' + b"9" * 5_000 + b"}", 400, "cannot be read"),
        ("generate", b'{"stop": [""]}', 422, "0 characters long"),
        ("generate", b'{"prompt": "' + b"x" * 2_001 + b'"}', 422, "2,001 characters long"),
    ],
    ids=lambda value: ascii(value[:30]) if isinstance(value, bytes) else None,
)
def test_what_cannot_be_answered_is_refused_with_a_problem(
    client: TestClient, path: str, body: bytes, status: int, words: str
) -> None:
    answer = client.post(f"/v1/{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert words in problem["detail"]
    assert len(problem["detail"]) < 500


def test_other_media_types_paths_and_methods_are_refused_in_the_same_form(client: TestClient) -> None:
    for answer, status, words in (
        (client.post("/v1/sentiment", content=b"texts=x"), 415, "send application/json"),
        (client.get("/v1/nothing"), 404, "There is no /v1/nothing"),
        (client.get("/v1/sentiment"), 405, "use POST"),
    ):
        assert answer.status_code == status
        assert words in answer.json()["detail"]
    assert client.get("/v1/sentiment").headers["allow"] == "POST"


def test_a_body_of_unknown_length_is_refused_while_it_comes(serving: Callable[..., TestClient]) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b" " * 1_000

    with serving(max_body_bytes=5_000) as client:
        answer = client.post("/v1/sentiment", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_without_the_token_nothing_of_worth_is_told(serving: Callable[..., TestClient]) -> None:
    with serving(token="a secret") as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a secret"}):
            for answer in (client.post("/v1/sentiment", headers=headers), client.get("/metrics", headers=headers)):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer TOKEN" in answer.json()["detail"]
        wait_until(lambda: client.get("/readyz").status_code == 200)
        client.headers["authorization"] = "Bearer a secret"
        assert classify(client, "good")["predictions"]
        assert client.get("/metrics").status_code == 200
        assert "HTTPBearer" in client.get("/openapi.json").text
        assert client.get("/").status_code == 200


def test_a_new_champion_takes_over(client: TestClient, sentiment_registry: Any, predictors: list[Any]) -> None:
    assert classify(client, TEXT)["model"]["version"] == "1"
    sentiment_registry.champion = 1
    wait_until(lambda: classify(client, TEXT)["model"]["version"] == "2")
    probs = list(classify(client, TEXT)["predictions"][0]["probabilities"].values())
    np.testing.assert_allclose(probs, predictors[1].predict([TEXT])[0], atol=1e-6)
    assert metric(client, 'unroll_model_swaps{project="sentiment"}') == 1


def test_a_registry_that_is_away_leaves_the_old_model_and_is_told_of(
    client: TestClient, sentiment_registry: Any
) -> None:
    sentiment_registry.is_away = True
    wait_until(lambda: "does not answer" in client.get("/readyz").json()["detail"])
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["projects"]["sentiment"]["registry_up"] is False
    assert "secret" not in ready.text
    assert classify(client, TEXT)["model"]["version"] == "1"
    assert metric(client, 'unroll_registry_up{project="sentiment"}') == 0
    assert metric(client, 'unroll_registry_up{project="language_model"}') == 1


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one(
    client: TestClient, sentiment_registry: Any, text_registry: Any
) -> None:
    sentiment_registry.folders[1] = text_registry.folders[0]  # a language model
    sentiment_registry.champion = 1
    wait_until(lambda: "version 2 cannot be loaded" in client.get("/readyz").json()["detail"])
    assert classify(client, TEXT)["model"]["version"] == "1"


def test_without_a_champion_one_is_told_to_train_and_try_again(
    serving: Callable[..., TestClient], sentiment_registry: Any
) -> None:
    sentiment_registry.champion = None
    with serving() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)  # there is a language model
        answer = client.post("/v1/sentiment", json={"texts": ["good"]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "reviews has no champion yet. Train one with 'unroll run sentiment'" in answer.json()["detail"]
        sentiment_registry.champion = 0
        wait_until(lambda: client.post("/v1/sentiment", json={"texts": ["good"]}).status_code == 200)


def test_a_server_with_no_model_at_all_is_not_ready(
    serving: Callable[..., TestClient], sentiment_registry: Any, text_registry: Any
) -> None:
    sentiment_registry.champion = text_registry.champion = None
    with serving() as client:
        wait_until(lambda: client.get("/readyz").json()["projects"]["sentiment"]["checked"] is not None)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("settings", "path", "body", "reason"),
    [
        ({"max_requests": 0}, "sentiment", {"texts": ["a"]}, "requests"),
        ({"max_waiting_texts": 1}, "sentiment", {"texts": ["a", "b"]}, "texts"),
        ({"max_waiting_explanations": 0}, "sentiment", {"texts": ["a"], "explain": True}, "explanations"),
        ({"max_streams": 0}, "generate", {}, "streams"),
    ],
)
def test_no_room_is_said_with_a_time_to_come_back(
    serving: Callable[..., TestClient], settings: dict[str, int], path: str, body: dict[str, Any], reason: str
) -> None:
    with serving(**settings, retry_after=7) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "7"
        assert "Try again" in answer.json()["detail"]
        assert metric(client, f'unroll_refused_total{{reason="{reason}"}}') == 1


def test_what_nobody_foresaw_is_a_problem_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unroll.serving.sentiment_route._predictions", lambda *_: 1 / 0)
    answer = client.post("/v1/sentiment", json={"texts": ["a"]})
    assert answer.status_code == 500
    assert answer.json()["detail"] == "No such end was foreseen; the server's log has the details."
    assert "x-content-type-options" in answer.headers
    assert "ZeroDivisionError" in caplog.text


def test_traffic_is_counted(client: TestClient) -> None:
    classify(client, "a", "b")
    client.post("/v1/generate", json={"length": 30})
    client.get("/v1/nothing")
    assert metric(client, 'unroll_requests_total{method="POST",route="/v1/sentiment",status="200"}') == 1
    assert metric(client, 'unroll_requests_total{method="GET",route="other",status="404"}') == 1
    assert metric(client, "unroll_texts_total") == 2
    assert metric(client, "unroll_characters_total") == 30
    assert metric(client, "unroll_requests_under_way") == 0
    assert metric(client, "unroll_waiting_texts") == 0
    name = 'unroll_model_info{digest="digest-1",name="prose",project="language_model",version="1"}'
    assert metric(client, name) == 1


def test_the_page_is_served_whole_and_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(loaded) > 4
    for address in loaded:
        assert client.get(f"/{address}").status_code == 200, address
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn", text), path
        assert client.get(f"/static/{path.name}").status_code == 200
    assert " style=" not in page.text
    assert "onclick" not in page.text
    assert client.get("/docs").status_code == 404  # it would load scripts from another host

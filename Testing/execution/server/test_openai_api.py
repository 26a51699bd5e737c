"""The official `openai` client with MedFM's server: chats with pictures, streams, stops, counts, and refusals."""

from __future__ import annotations

import base64
import io
import threading

import numpy as np
import openai
import pytest
from PIL import Image as Picture
from support.server_in_test import TOKEN, wait_for


def data_url(pixels, kind="PNG"):
    stream = io.BytesIO()
    Picture.fromarray(pixels).save(stream, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.fixture(scope="module")
def picture():
    return data_url(np.arange(16 * 20, dtype=np.uint16).astype(np.uint8).reshape(16, 20))


def turn(text, *urls):
    return {
        "role": "user",
        "content": [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": u}} for u in urls)],
    }


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def ask(client, text, *urls, **options):
    return client.chat.completions.create(
        model=options.pop("model", "medfm-tiny"), messages=[turn(text, *urls)], **options
    )


def test_a_chat_with_a_picture_is_answered(client, picture):
    total = int(np.arange(16 * 20, dtype=np.uint16).astype(np.uint8).sum())
    answer = ask(client, "mark case-7", picture)
    assert answer.choices[0].message.content == f"case-7 sum {total} uint8"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 5, 16)
    assert answer.model == "medfm-tiny"


def test_the_picture_keeps_its_orientation(client):
    """The patient's right is at the picture's left, and rows go down: voxel (i, j) is column i of row j."""
    pixels = np.zeros((16, 20), np.uint8)
    from MedFMLib.execution.server.pictures import image_from_urls

    pixels[2, 5] = 200
    image = image_from_urls([data_url(pixels)], 10**6)
    assert image.voxels.shape == (1, 20, 16, 1)
    assert image.voxels[0, 5, 2, 0] == 200
    assert image.geometry.axis_codes == "LPS"


def test_the_model_sees_the_pixels_as_they_were_sent():
    from MedFMLib.core.view import make_view, window_for
    from MedFMLib.execution.server.pictures import image_from_urls

    random = np.random.default_rng(0)
    sent = [random.integers(40, 90, shape, dtype=np.uint8) for shape in ((24, 32), (20, 40, 3))]
    image = image_from_urls([data_url(pixels) for pixels in sent], 10**6)
    grey, colour = (make_view(image, "picture", n, window_for(image)).pixels for n in (0, 1))
    assert np.array_equal(grey, np.stack([sent[0]] * 3, axis=-1))
    assert np.array_equal(colour, sent[1])


def test_words_come_as_a_stream(client, picture):
    chunks = list(ask(client, "words one two three", picture, stream=True, stream_options={"include_usage": True}))
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert pieces == ["one ", "two ", "three "]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_even_across_pieces(client, picture, stream):
    answer = ask(client, "words alpha beta gamma delta", picture, stop=["a ga"], stream=stream)
    text = "".join(c.choices[0].delta.content or "" for c in answer) if stream else answer.choices[0].message.content
    assert text.strip() == "alpha bet"


def test_a_stop_text_that_never_comes_holds_nothing_back(client, picture):
    answer = list(ask(client, "words ab abc", picture, stop="abcd", stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in answer if c.choices) == "ab abc "


def test_the_length_is_reported_when_it_ended_the_answer(client, picture):
    assert ask(client, "mark a", picture, max_tokens=5).choices[0].finish_reason == "length"


def test_adapters_are_models(client, picture):
    names = [model.id for model in client.models.list()]
    assert names[0] == "medfm-tiny"
    assert "medfm-tiny:brain-mr" in names
    assert client.models.retrieve("medfm-tiny:brain-mr").id == "medfm-tiny:brain-mr"
    assert ask(client, "mark a", picture, model="medfm-tiny:brain-mr").model == "medfm-tiny:brain-mr"


@pytest.mark.parametrize("model", ["gpt-9", "medfm-tiny:none-such", "/etc", "../..", "Resources/models/medfm-tiny"])
def test_an_unknown_model_is_not_found_and_no_folder_is_opened(client, picture, model):
    with pytest.raises(openai.NotFoundError, match=r"has no (model|adapter)"):
        ask(client, "mark a", picture, model=model)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(model)


@pytest.mark.parametrize("key", ["wrong", TOKEN[:-1], TOKEN + "0", TOKEN[:-1] + "x", "x"])
def test_a_wrong_key_is_refused(server, picture, key):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="key is missing or wrong"):
        ask(client, "mark a", picture)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


BAD = {
    "no picture": ({"messages": [{"role": "user", "content": "hello"}]}, "send one as an image_url"),
    "elsewhere": ({"messages": [turn("a", "https://example.org/a.png")]}, "fetches nothing"),
    "a file": ({"messages": [turn("a", "file:///etc/passwd")]}, "fetches nothing"),
    "damaged": ({"messages": [turn("a", "data:image/png;base64,AAAA")]}, "can't be read"),
    "not base64": ({"messages": [turn("a", "data:image/png;base64,?!")]}, "can't be read"),
    "no messages": ({"messages": []}, "'messages' is missing"),
    "assistant last": ({"messages": [turn("a"), {"role": "assistant", "content": "b"}]}, "must have the role 'user'"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "does not support 'tools'"),
    "several": ({"n": 2}, "one answer"),
    "JSON mode": ({"response_format": {"type": "json_object"}}, "plain text"),
    "no length": ({"max_tokens": 0}, "at least 1, not 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_done_is_said_in_one_sentence(client, picture, name):
    options, sentence = BAD[name]
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        client.chat.completions.create(**{"model": "medfm-tiny", "messages": [turn("mark a", picture)], **options})
    assert caught.value.body["type"] == "invalid_request_error"


def test_a_one_picture_model_says_so(client, picture):
    with pytest.raises(openai.BadRequestError, match="takes 1 picture here, not 2"):
        ask(client, "mark a", picture, picture)


def test_a_failure_of_the_job_reaches_the_client(client, picture):
    with pytest.raises(openai.BadRequestError, match="slice 7 does not exist"):
        ask(client, "fail 7", picture)
    with pytest.raises(openai.InternalServerError, match="ended unexpectedly"):
        ask(client, "die", picture)
    with pytest.raises(openai.APIError, match="slice 7 does not exist"):
        list(ask(client, "fail 7", picture, stream=True))


def test_a_client_that_goes_away_frees_the_engine(server, client, picture):
    stream = ask(client, "sleep 600", picture, stream=True)
    next(iter(stream))
    wait_for(lambda: server.client().state()["running"] == 1, 10, "the job to run")
    stream.close()
    wait_for(lambda: server.client().state()["running"] == 0, 10, "the job to be given up")
    assert ask(client, "mark b", picture).choices[0].message.content.startswith("b ")


def test_a_picture_that_unpacks_to_a_giant_is_refused_before_it_does(start_server):
    small = start_server("--pixels", "10000")
    client = openai.OpenAI(base_url=f"{small.url}/v1", api_key=TOKEN, max_retries=0)
    with pytest.raises(openai.BadRequestError, match="200×200 pixels"):
        ask(client, "mark a", data_url(np.zeros((200, 200), np.uint8)))


def test_several_at_once_get_their_own_answers(client, picture):
    found = {}

    def one(number):
        found[number] = ask(client, f"mark case-{number}", picture).choices[0].message.content

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    assert all(found[n].startswith(f"case-{n} ") for n in range(12))

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.multipart import FormImages
from service.errors import BadMultipart, BatchTooLarge
from tests.api.running import photo

TYPE = "multipart/form-data; boundary=xyz"


def part(content: bytes, disposition: str = 'form-data; name="image"', more: str = "") -> bytes:
    return f"--xyz\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def parse(body: bytes, content_type: str = TYPE) -> bytes:
    (image,) = parse_all(body, 1, content_type)
    return image


def parse_all(body: bytes, limit: int, content_type: str = TYPE) -> list[bytes]:
    form = FormImages(content_type, limit, BatchTooLarge("too many"))
    form.feed(body)
    return form.finish()


def test_the_part_named_image_is_the_image() -> None:
    assert parse(part(b"abc") + b"--xyz--\r\n") == b"abc"


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="image"; filename="a.jpg"',
        "form-data; name=image",
        'FORM-DATA; filename="name=\\"other\\""; name="image"',
        'form-data; filename="a;b.jpg"; name="image"',
        "form-data; name=image; filename*=UTF-8''name%3Dother; name*=UTF-8''other",
    ],
)
def test_the_name_is_found_among_other_parameters(disposition: str) -> None:
    body = part(b"abc", disposition, "Content-Type: image/jpeg\r\nX-Name: other\r\n") + b"--xyz--"
    assert parse(body) == b"abc"


@given(
    st.binary() | st.lists(st.sampled_from([b"\r\n", b"--xyz", b"--", b"-", b"x"])).map(b"".join), st.data()
)
def test_any_content_arrives_unchanged_in_any_pieces(content: bytes, data: st.DataObject) -> None:
    boundary = b"a-boundary-that-is-not-in-the-content"
    body = part(content).replace(b"--xyz", b"--" + boundary, 1) + b"--" + boundary + b"--\r\n"
    type_ = f"multipart/form-data; boundary={boundary.decode()}"
    form = FormImages(type_, 1, BatchTooLarge("too many"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        form.feed(body[start:end])
    assert form.finish() == [content]


@given(st.binary())
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        image = parse(b"--xyz\r\n" + body)
    except BadMultipart:
        return
    assert image in body


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "ends before the closing boundary"),
        (b"--xyz--\r\n", "has no part"),
        (part(b"abc"), "ends before the closing boundary"),
        (part(b"5", 'form-data; name="top_k"') + b"--xyz--", "a part named 'top_k'"),
        (part(b"5", "form-data") + b"--xyz--", "a part named ''"),
        (b"--other\r\n", "ends before the closing boundary that the Content-Type names"),
        (b"--xyz\r\nno header\r\n\r\n", "a header line that is not `name: value`"),
        (b"--xyz\r\nX: a\r\n\r b\r\n\r\n", "a header line that is not `name: value`"),
        (b"--xyz\r\nX: " + bytes(100_000), "more than 8192 bytes of headers"),
        (b"--xyz\r\nX: " + bytes(8192) + b"\r\n\r\n", "more than 8192 bytes of headers"),
        (part(bytes(8192)).replace(b"\r\n", b"\n"), "their lines must end in CRLF"),
        (part(b"abc").replace(b"\r\n", b"\n") + b"\r\n--xyz--\r\n", "their lines must end in CRLF"),
        (part(b"abc\r\n--xyzzy\r\n\r\n") + b"--xyz--", "begins with the boundary, but continues after it"),
        (part(b"abc\r\n--xyz-\r\n\r\n") + b"--xyz--", "begins with the boundary, but continues after it"),
    ],
)
def test_a_bad_form_is_refused_with_the_reason(body: bytes, detail: str) -> None:
    with pytest.raises(BadMultipart) as caught:
        parse(body)
    assert detail in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_come_in_their_order() -> None:
    body = part(b"abc") + part(b"") + part(b"x") + b"--xyz--"
    assert parse_all(body, 3) == [b"abc", b"", b"x"]


def test_parsing_stops_at_one_part_too_many() -> None:
    form = FormImages(TYPE, 2, BatchTooLarge("too many"))
    form.feed(part(b"abc") + part(b""))
    with pytest.raises(BatchTooLarge, match="too many"):
        form.feed(part(b""))


def test_a_wrong_name_is_reported_rather_than_one_part_too_many() -> None:
    with pytest.raises(BadMultipart, match="a part named 'top_k'"):
        parse(part(b"abc") + part(b"3", 'form-data; name="top_k"') + b"--xyz--")


@pytest.mark.parametrize("before", [b"", b"\r\n", b"This is a preamble\r\n", b"-\r\n--x\r\n --xyz\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nThis is an epilogue\r\n--xyz\r\n" + part(b"x")])
def test_preamble_and_epilogue_are_ignored(before: bytes, after: bytes) -> None:
    assert parse(before + part(b"abc") + b"--xyz--" + after) == b"abc"


def test_a_boundary_may_be_padded() -> None:
    body = (part(b"abc") + part(b"x")).replace(b"--xyz", b"--xyz \t ") + b"--xyz-- \r\n"
    assert parse_all(body, 2) == [b"abc", b"x"]


# python_multipart's parser would take seconds to read on after these.
@pytest.mark.parametrize("line", [b"\r\n--xyzx", b"\r\n--xyz-", b"\r\n--xyz" + b" " * 1000])
def test_parsing_stops_at_a_line_that_resembles_the_boundary(line: bytes) -> None:
    form = FormImages(TYPE, 1, BatchTooLarge("too many"))
    form.feed(part(b"abc"))
    with pytest.raises(BadMultipart):
        form.feed(line * 2000)


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 300}"],
)
def test_a_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(BadMultipart, match="boundary"):
        FormImages(content_type, 1, BatchTooLarge("too many"))


@pytest.mark.parametrize(
    ("files", "status", "problem"),
    [
        ([("image", b"")], 400, "empty-body"),
        ([("photo", photo("red"))], 400, "bad-multipart"),
        ([("image", photo("red")), ("image", photo("blue"))], 400, "bad-multipart"),
        ([("image", photo("red")), ("top_k", b"3")], 400, "bad-multipart"),
        ([("image", b"no image")], 415, "unsupported-image"),
        ([("image", bytes(200_001))], 413, "body-too-large"),
    ],
    ids=["empty", "missing", "twice", "with another", "unsupported", "too large"],
)
def test_bad_forms_are_answered_with_a_problem(
    client: httpx.Client, files: list[tuple[str, bytes]], status: int, problem: str
) -> None:
    response = client.post("/v1/classify", files=files)
    assert response.status_code == status
    assert response.json()["type"] == f"/problems/{problem}"

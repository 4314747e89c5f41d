from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import (
    RemoteFile,
    indexes,
    is_safe,
    listing_digest,
    missing_shards,
    select,
    total_bytes,
    weight_bytes,
)


def file(path: str, size: int = 1, sha256: str | None = None, blob_id: str = "b" * 40) -> RemoteFile:
    return RemoteFile(path=path, size=size, sha256=sha256, blob_id=blob_id)


REPO = tuple(
    map(
        file,
        (
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "pytorch_model.bin",
            "original/consolidated.safetensors",
            "onnx/model/weights.safetensors",
            "chat_template.jinja",
            ".gitattributes",
        ),
    )
)


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (("*.safetensors",), {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}),
        (("tokenizer*", "*.jinja"), {"tokenizer.json", "tokenizer.model", "chat_template.jinja"}),
        (("original/",), {"original/consolidated.safetensors"}),
        (("onnx/**",), {"onnx/model/weights.safetensors"}),
        (("**/weights.*",), {"onnx/model/weights.safetensors"}),
        (("**/config.json",), {"config.json"}),
        (("config.jso?",), {"config.json"}),
        ((), {f.path for f in REPO}),
    ],
)
def test_patterns_select_by_path_and_a_star_stays_in_its_folder(
    patterns: tuple[str, ...], wanted: set[str]
) -> None:
    chosen = select(REPO, patterns)
    assert {f.path for f in chosen} == wanted
    assert list(chosen) == sorted(chosen, key=lambda f: f.path)


def test_patterns_that_select_nothing_are_refused_and_say_what_is_there() -> None:
    with pytest.raises(Refused, match=r"no file matches \*.gguf; the repository has .gitattributes") as e:
        select(REPO, ("*.gguf",))
    assert e.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "",
        "a\\b",
        "a\nb",
        "a\0b",
        "a\udc80b",
        ".llm-release.json",
        "x" * 300,
    ],
)
def test_a_path_that_leaves_the_volume_or_is_ours_is_refused(path: str) -> None:
    assert not is_safe(path)
    with pytest.raises(Refused) as e:
        select([file(path)], ())
    assert e.value.code is Code.BAD_INPUT


_FILES = st.lists(
    st.builds(
        file,
        st.text(st.characters(min_codepoint=33, max_codepoint=300), min_size=1, max_size=12),
        st.integers(0, 10**12),
        st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
        st.text("0123456789abcdef", min_size=40, max_size=40),
    ),
    unique_by=lambda f: f.path,
    max_size=8,
)


@given(_FILES, st.randoms(use_true_random=False))
def test_the_digest_of_a_listing_does_not_depend_on_its_order(
    files: list[RemoteFile], random: object
) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert listing_digest(shuffled) == listing_digest(files)


@given(_FILES, _FILES)
def test_different_listings_have_different_digests(one: list[RemoteFile], other: list[RemoteFile]) -> None:
    def content(files: list[RemoteFile]) -> set[tuple[str, int, str]]:
        return {(f.path, f.size, f.identity) for f in files}

    assert (listing_digest(one) == listing_digest(other)) == (content(one) == content(other))


@given(
    st.lists(st.text("ab*?/.", max_size=8), max_size=4),
    st.lists(st.text("ab/.", min_size=1, max_size=8), min_size=1, max_size=6),
)
def test_a_selection_never_holds_what_no_pattern_matches_or_what_is_unsafe(
    patterns: list[str], paths: list[str]
) -> None:
    files = [file(p) for p in dict.fromkeys(paths)]
    try:
        chosen = select(files, patterns)
    except Refused:
        return
    assert set(chosen) <= set(files)
    assert all(is_safe(f.path) for f in chosen)
    if not any("**" in p or p.endswith("/") for p in patterns) and patterns:
        depths = {p.count("/") for p in patterns}
        assert all(f.path.count("/") in depths for f in chosen)


def test_sizes_count_weights_apart_from_the_rest() -> None:
    files = [file("a.safetensors", 10), file("b/c.safetensors", 5), file("config.json", 3)]
    assert (weight_bytes(files), total_bytes(files)) == (15, 18)


def test_shards_that_the_index_names_and_the_listing_lacks_are_named() -> None:
    index = json.dumps(
        {
            "metadata": {},
            "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"},
        }
    )
    assert missing_shards("m.safetensors.index.json", index, ["m-1.safetensors"]) == ("m-2.safetensors",)
    assert (
        missing_shards("x/m.safetensors.index.json", index, ["x/m-1.safetensors", "x/m-2.safetensors"]) == ()
    )
    assert [f.path for f in indexes(REPO)] == ["model.safetensors.index.json"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 100_000],
)
def test_an_index_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"m\.safetensors\.index\.json") as e:
        missing_shards("m.safetensors.index.json", text, [])
    assert e.value.code is Code.INCOMPLETE_MODEL


@pytest.mark.parametrize("paths", [("a.json", "a.json"), ("a", "a/b.json"), ("a/b", "a/b/c/d")])
def test_a_path_that_is_listed_twice_or_is_a_folder_too_is_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(Refused, match="twice, or as a file and as a folder") as e:
        select([file(p, blob_id=n * 40) for p, n in zip(paths, "bc", strict=True)], ())
    assert e.value.code is Code.BAD_INPUT

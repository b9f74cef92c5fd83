"""The tokenizer that chapter 4 builds by hand gives CLIP's numbers, from the joins that the page lists."""

import math
import warnings

import nbformat
import pytest
import torch
from execute_notebooks import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from vdmlib.released.encoders import TextEncoderConfig, tokenizer


@pytest.fixture(scope="module")
def page() -> dict:
    """The names that the page's three cells define."""
    names = {"math": math, "torch": torch}
    notebook = nbformat.read(ROOT / "book/04_embeddings.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.lstrip().startswith(("joins = ", "def pieces", "def tokenize")):
            exec(cell.source, names)
    return names


def test_every_word_and_every_sentence_of_the_page(page):
    sentence = "a red 7 moving left quickly"
    long = f"{sentence} and then " * 12 + "an elephant"
    sentences = [*page["known"], " ".join(page["known"]), sentence, "A RED 7 !", "", long]
    with pytest.warns(UserWarning, match="it does not see"):  # What is beyond 75 tokens of the long one.
        theirs = tokenizer(TextEncoderConfig())(sentences)
    assert torch.equal(torch.cat([page["tokenize"](text) for text in sentences]), theirs)


def test_any_sentence_of_its_words_is_tokenised_as_clip_does(page):
    theirs = tokenizer(TextEncoderConfig())

    @settings(max_examples=40)
    @given(st.lists(st.sampled_from(page["known"]), max_size=90), st.sampled_from([str.lower, str.upper, str.title]))
    def same(words, cased):
        text = cased(" ".join(words))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model sees")
            assert torch.equal(page["tokenize"](text), theirs([text]))

    same()


def test_the_page_lists_every_join_that_can_apply_to_its_words(page):
    from open_clip.tokenizer import SimpleTokenizer

    words = [f"{word}_" for word in page["known"]]
    ranks = {tuple(p.replace("</w>", "_") for p in pair): rank for pair, rank in SimpleTokenizer().bpe_ranks.items()}
    needed = {pair: rank for pair, rank in ranks.items() if any("".join(pair) in word for word in words)}
    assert {pair: page["order"][pair] for pair in needed if pair in page["order"]} == page["order"]
    assert set(needed) == set(page["order"])


def test_an_unknown_word_is_refused(page):
    with pytest.raises(ValueError, match="no joins for"):
        page["tokenize"]("a green 7")

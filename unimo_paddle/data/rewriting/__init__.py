"""Text rewriting for contrastive learning: captions made false, and captions that say the same.

"UNIMO" (arXiv 2012.15409), section 2.3. ``rewriter.Rewriter`` makes them once, before
training; ``RewrittenCaptions`` reads them at random:

    tagging       words with their parts of speech
    lexicon       what words name, and what may be the same thing (object_names, quality_names)
    graph         objects, attributes and relations of a caption
    knowledge     what captions, tags and graph of an image rule out
    corpus        the vocabulary and the phrases that may be put in
    changes       an object, attribute, relation or phrase replaced
    sentences     near captions of other images
    paraphrases   the user's file of texts that say the same
    rewriter      all of it for each image
    store         the file, written in blocks and read at random
    inspector     a page to look at, and a table to judge by
"""

from unimo_paddle.data.rewriting.store import (
    KINDS,
    NEGATIVE_KINDS,
    POSITIVE_KINDS,
    Rewrite,
    RewrittenCaptions,
)

__all__ = [
    "KINDS",
    "NEGATIVE_KINDS",
    "POSITIVE_KINDS",
    "Rewrite",
    "RewrittenCaptions",
]

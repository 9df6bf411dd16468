"""A tokenizer of which everybody can say how many tokens a text has."""

from tokenizers import Tokenizer, models, pre_tokenizers


def of_bytes() -> bytes:
    """A tokenizer's file: each byte is a token, and every prompt is cut to ten by default."""
    vocabulary = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.enable_truncation(10)
    return made.to_str().encode()

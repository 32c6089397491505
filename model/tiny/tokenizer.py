"""The tiny pair's tokenizer: 64 characters and special tokens, one token a character.

Built once into `weights/tokenizer.json`, the released checkpoints' format; whoever reads a
checkpoint loads that file with the `tokenizers` library like any other.
"""

import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
_CHARACTERS = " " + string.ascii_lowercase + string.digits + ".,:;>=+-?!'/|#*()[]_&%@"


def build_tokenizer() -> Tokenizer:
    """A character-level tokenizer of exactly 64 entries."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *_CHARACTERS))}
    assert len(vocabulary) == 64
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer

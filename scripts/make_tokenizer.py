"""Write what vLLM needs to convert chats of a gpt-oss checkpoint, without any download.

    python scripts/make_tokenizer.py FOLDER

FOLDER, which has a checkpoint, gets a Hugging Face tokenizer of o200k_harmony, and the rank file
that vLLM looks for in the folder that the variable TIKTOKEN_ENCODINGS_BASE names.

It needs transformers.
"""

import argparse
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from harmony_kit.wire import _vocabulary as vocabulary

MODEL_VOCABULARY = 201088  # the last of o200k_harmony's ids is not in it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder

    ranks = folder / "o200k_base.tiktoken"
    ranks.write_bytes(vocabulary.export_tiktoken())
    names = vocabulary.SPECIAL_TOKEN_NAMES
    special = [names[token] for token in range(vocabulary.FIRST_SPECIAL, MODEL_VOCABULARY)]
    converter = TikTokenConverter(
        vocab_file=str(ranks), pattern=vocabulary._PATTERN, extra_special_tokens=special
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        bos_token=names[vocabulary.START_OF_TEXT],
        eos_token=names[vocabulary.RETURN],
        pad_token=names[vocabulary.END_OF_TEXT],
        clean_up_tokenization_spaces=False,
    )
    sample = "<|start|>user<|message|>Grüß Gott, 12345 naïve ☃ 日本<|end|>"
    expected = vocabulary.encode_with_special(sample)
    found = tokenizer(sample, add_special_tokens=False)["input_ids"]
    if found != expected:
        raise SystemExit(f"the tokenizer gives {found} where {expected} is right")
    tokenizer.save_pretrained(folder)
    print(f"{folder}: a tokenizer of {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()

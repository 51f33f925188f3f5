"""Write a gpt-oss checkpoint of Hugging Face's form as a GGUF in float32, for llama.cpp.

    python scripts/make_gguf.py FOLDER [FILE]

For small checkpoints, such as those of make_checkpoint.py: it reads one model.safetensors in
float32 or bfloat16, no quantized weights. The vocabulary is this package's own. It needs gguf
and numpy.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from harmony_kit.wire._vocabulary import (
    END_OF_TEXT,
    FIRST_SPECIAL,
    RETURN,
    SPECIAL_TOKEN_NAMES,
    START_OF_TEXT,
    ordinary_token_table,
)

ARCHITECTURE = gguf.MODEL_ARCH.GPT_OSS


def write_gguf(folder: Path, file: Path) -> None:
    """Write the GGUF of a checkpoint.

    Args:
        folder: Where config.json and model.safetensors are.
        file: What to write.
    """
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[ARCHITECTURE])
    add_config(writer, config)
    add_vocabulary(writer, config["vocab_size"])
    for name, values in named_for_llama_cpp(
        read_tensors(folder / "model.safetensors"), config["num_hidden_layers"]
    ):
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")


def add_config(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_expert_count(config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    # transformers writes both under one name since its version 5.
    rope = {**config, **(config.get("rope_scaling") or {}), **config.get("rope_parameters", {})}
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


# --- The vocabulary -------------------------------------------------------------------------


def add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Add the tokens, and how byte pairs are merged."""
    ordinary = ordinary_token_table()[:FIRST_SPECIAL]
    spelling = spelling_of_bytes()
    names = ["".join(map(spelling.__getitem__, token)) for token in ordinary]
    names += [SPECIAL_TOKEN_NAMES[token] for token in range(FIRST_SPECIAL, size)]
    types = [gguf.TokenType.NORMAL] * FIRST_SPECIAL
    types += [gguf.TokenType.CONTROL] * (size - FIRST_SPECIAL)
    ranks = {token: rank for rank, token in enumerate(ordinary)}
    merges = (merge_of(token, ranks) for token in ordinary if len(token) > 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(names)
    writer.add_token_types(types)
    writer.add_token_merges(
        [" ".join("".join(map(spelling.__getitem__, part)) for part in merge) for merge in merges]
    )
    writer.add_bos_token_id(START_OF_TEXT)
    writer.add_eos_token_id(RETURN)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)


def spelling_of_bytes() -> list[str]:
    """The character that stands for each byte, as in GPT-2's vocabulary file.

    Bytes that are printable in Latin-1 stand for themselves, the others for the characters
    from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def merge_of(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that a token is made of, when the lowest ranks are merged first."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        place = pairs.index(min(pairs))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


# --- The weights ----------------------------------------------------------------------------


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, mapped into memory.

    The format is a JSON header behind its length in 8 bytes, then the data; read here since
    numpy knows no bfloat16.
    """
    data = np.memmap(file, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        values = data[start + first : start + last]
        if entry["dtype"] == "BF16":
            numbers = (values.view("<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F32":
            numbers = values.view("<f4")
        else:
            raise SystemExit(f"{file}: {name} is {entry['dtype']}; only F32 and BF16 are known")
        tensors[name] = numbers.reshape(entry["shape"])
    return tensors


def named_for_llama_cpp(
    tensors: Mapping[str, np.ndarray], layers: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors under llama.cpp's names, in its shapes."""
    names = gguf.get_tensor_name_map(ARCHITECTURE, layers)

    def named(name: str, suffix: str) -> str:
        known = names.get_name(name)
        if known is None:
            raise SystemExit(f"llama.cpp has no name for {name}")
        return f"{known}.{suffix}"

    for name, values in tensors.items():
        if name.endswith("sinks"):
            yield named(name, "weight"), values
        elif ".experts." in name:
            # Experts' matrices are transposed there; gate and up alternate in one here.
            suffix = "bias" if name.endswith("_bias") else "weight"
            matrix = name.removesuffix("_bias")
            turned = values if suffix == "bias" else values.transpose(0, 2, 1)
            if matrix.endswith("gate_up_proj"):
                experts = matrix.removesuffix("gate_up_proj")
                yield named(experts + "gate_proj", suffix), turned[:, 0::2]
                yield named(experts + "up_proj", suffix), turned[:, 1::2]
            else:
                yield named(matrix, suffix), turned
        else:
            matrix, _, suffix = name.rpartition(".")
            yield named(matrix, suffix), values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?", help="model.gguf in the folder if not given")
    options = parser.parse_args()
    write_gguf(options.folder, options.file or options.folder / "model.gguf")


if __name__ == "__main__":
    main()

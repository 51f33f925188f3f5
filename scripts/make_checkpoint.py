"""Write a small gpt-oss checkpoint with random weights, for tests of real engines.

    python scripts/make_checkpoint.py FOLDER [--hidden 128] [--layers 4] [--dtype float32] [--gguf]

transformers and vLLM load the folder; with --gguf it gets a model.gguf too, with the same
weights, which llama.cpp loads. The model has all that gpt-oss has (experts, attention sinks,
sliding windows, biases) and its vocabulary; only its answers mean nothing.

It needs numpy, and for the GGUF the package gguf.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCABULARY = 201088  # of gpt-oss; the last of o200k_harmony's 201,089 ids is not in it
HEADS, KEY_VALUE_HEADS = 4, 2
EXPERTS, EXPERTS_PER_TOKEN = 8, 2
WINDOW = 128


def config(hidden: int, head_dim: int, layers: int, dtype: str) -> dict[str, object]:
    """The model's config.json, with the names that gpt-oss's own has."""
    kinds = ("sliding_attention", "full_attention")
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "dtype": dtype,
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "layer_types": [kinds[layer % 2] for layer in range(layers)],
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": head_dim,
        "attention_bias": True,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "hidden_act": "silu",
        "swiglu_limit": 7.0,
        "rms_norm_eps": 1e-05,
        "sliding_window": WINDOW,
        "max_position_embeddings": 131072,
        "rope_theta": 150000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            # gpt-oss itself has false, but llama.cpp always rounds these bounds.
            "truncate": True,
            "original_max_position_embeddings": 4096,
        },
        "tie_word_embeddings": False,
        "bos_token_id": 199998,
        "eos_token_id": 200002,
        "pad_token_id": 199999,
    }


def shapes(hidden: int, head_dim: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of every tensor."""
    queries, keys = HEADS * head_dim, KEY_VALUE_HEADS * head_dim
    yield "model.embed_tokens.weight", (VOCABULARY, hidden)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.sinks", (HEADS,)
        for name, rows, columns in (
            ("q_proj", queries, hidden),
            ("k_proj", keys, hidden),
            ("v_proj", keys, hidden),
            ("o_proj", hidden, queries),
        ):
            yield f"{prefix}self_attn.{name}.weight", (rows, columns)
            yield f"{prefix}self_attn.{name}.bias", (rows,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.router.weight", (EXPERTS, hidden)
        yield prefix + "mlp.router.bias", (EXPERTS,)
        yield prefix + "mlp.experts.gate_up_proj", (EXPERTS, hidden, 2 * hidden)
        yield prefix + "mlp.experts.gate_up_proj_bias", (EXPERTS, 2 * hidden)
        yield prefix + "mlp.experts.down_proj", (EXPERTS, hidden, hidden)
        yield prefix + "mlp.experts.down_proj_bias", (EXPERTS, hidden)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (VOCABULARY, hidden)


def spread(
    name: str, shape: tuple[int, ...], hidden: int, chance: np.random.Generator
) -> np.ndarray:
    """Values far enough apart that the greedy choice does not hang on a rounding."""
    noise = chance.standard_normal(shape, np.float32)
    if "norm" in name:
        return 1 + np.float32(0.1) * noise
    if name.endswith("bias"):
        return np.float32(0.1) * noise
    if "sinks" in name or "embed" in name:
        return noise
    scale = 1.0 if "lm_head" in name else 1.5
    return np.float32(scale * hidden**-0.5) * noise


def rounded_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper half of each number, rounded to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def write_tensors(file: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    """Write a safetensors file: a JSON header behind its length, then the data."""
    size = {"float32": 4, "bfloat16": 2}[dtype]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        start, end = end, end + size * values.size
        header[name] = {
            "dtype": {"float32": "F32", "bfloat16": "BF16"}[dtype],
            "shape": values.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as output:
        output.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            rounded = rounded_to_bfloat16(values) if dtype == "bfloat16" else values
            output.write(rounded.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gguf", action="store_true", help="write model.gguf too")
    options = parser.parse_args()

    chance = np.random.default_rng(options.seed)
    tensors = {
        name: spread(name, shape, options.hidden, chance)
        for name, shape in shapes(options.hidden, options.head_dim, options.layers)
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    parameters = config(options.hidden, options.head_dim, options.layers, options.dtype)
    (options.folder / "config.json").write_text(json.dumps(parameters, indent=2) + "\n")
    write_tensors(options.folder / "model.safetensors", tensors, options.dtype)
    count = sum(values.size for values in tensors.values())
    print(f"{options.folder}: {count / 1e6:.1f} M parameters, {options.dtype}")
    if options.gguf:
        del tensors
        from make_gguf import write_gguf

        write_gguf(options.folder, options.folder / "model.gguf")


if __name__ == "__main__":
    main()

"""Write a small gpt-oss checkpoint with random weights, for tests of real engines.

    python scripts/make_checkpoint.py FOLDER [--hidden 128] [--layers 4] [--dtype float32]

It needs transformers and torch. The model has all that gpt-oss has (experts, attention sinks,
sliding windows, biases) and its vocabulary; only its answers mean nothing.
"""

import argparse

import torch
from transformers import GptOssConfig, GptOssForCausalLM

VOCABULARY = 201088  # of gpt-oss; the last of o200k_harmony's 201,089 ids is not in it
WINDOW = 128


def config(hidden: int, head_dim: int, layers: int) -> GptOssConfig:
    kinds = ("sliding_attention", "full_attention")
    return GptOssConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        num_local_experts=8,
        num_experts_per_tok=2,
        sliding_window=WINDOW,
        layer_types=[kinds[layer % 2] for layer in range(layers)],
        bos_token_id=199998,
        eos_token_id=200002,
        pad_token_id=199999,
    )


def spread(name: str, shape: torch.Size, hidden: int, generator: torch.Generator) -> torch.Tensor:
    """Values far enough apart that the greedy choice does not hang on a rounding."""
    noise = torch.randn(shape, generator=generator)
    if "norm" in name:
        return 1 + 0.1 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    if "sinks" in name or "embed" in name:
        return noise
    if "lm_head" in name:
        return noise * hidden**-0.5
    return 1.5 * noise * hidden**-0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--hidden", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    model = GptOssForCausalLM(config(options.hidden, options.head_dim, options.layers))
    generator = torch.Generator().manual_seed(options.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(spread(name, parameter.shape, options.hidden, generator))
    model = model.to(getattr(torch, options.dtype))
    model.save_pretrained(options.folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{options.folder}: {parameters / 1e6:.1f} M parameters, {options.dtype}")


if __name__ == "__main__":
    main()

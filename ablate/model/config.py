"""ModelConfig of a Transformer: the numbers that fix its parameters, apart from the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ablate.core.storage import LATER
from ablate.core.validation import require, require_ranges
from ablate.model.rope import RopeScaling

# Beyond these are slips of the finger: a single tensor of such sizes fits no machine
MOST = {"width": 2**20, "layers": 2**12, "heads": 2**14, "kv_heads": 2**14, "hidden": 2**24, "vocabulary": 2**26}


@dataclass
class ModelConfig:
    """Llama-style decoder shape, that of Llama, Qwen2 (`qkv_bias`), Qwen3 (`qk_norm`, `head`) and their kin. Widths in
    numbers of features.

    `vocabulary` 0 means: as many tokens as the corpus has. `hidden` 0 means: 8/3 of the width, rounded up to a
    multiple of 8, which gives SwiGLU the parameters of a 4x two-matrix layer (Shazeer, 2020). qkv_bias: have queries,
    keys and values biases? qk_norm: are heads of queries and keys normed (RMS) before they are turned? head: width of a
    head, 0 means width / heads. mask_id: id of MASK in a checkpoint's vocabulary, -1 means: as the corpus has it.
    Raises ValueError for sizes that do not divide.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int = 0
    vocabulary: int = 0
    tied: bool = False
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = field(default=False, metadata=LATER)
    qk_norm: bool = field(default=False, metadata=LATER)
    head: int = field(default=0, metadata=LATER)
    rope_scaling: RopeScaling = field(default_factory=RopeScaling, metadata=LATER)
    mask_id: int = field(default=-1, metadata=LATER)

    def __post_init__(self) -> None:
        ranges = {name: (int(name in ("width", "layers", "heads", "kv_heads")), most) for name, most in MOST.items()}
        require_ranges(self, ranges, "model.")
        require("model.rope_theta", self.rope_theta, 0 < self.rope_theta < math.inf, "a finite number above 0", 10_000)
        require("model.norm_eps", self.norm_eps, 0 <= self.norm_eps < 1, "0 or more and less than 1", 1e-6)
        if not self.head and self.width % (2 * self.heads):
            raise ValueError(
                f"model.heads={self.heads} with model.width={self.width}: wanted an even head width "
                f"(rotary embeddings turn pairs), got {self.width / self.heads:g}; try model.heads={_divisor(self)}"
            )
        wanted = "an even width (rotary embeddings turn pairs), or 0 for width / heads"
        require("model.head", self.head, self.head >= 0 and self.head % 2 == 0, wanted, max(2, self.head + 1))
        wanted = f"a divisor of model.heads={self.heads}"
        require("model.kv_heads", self.kv_heads, self.heads % self.kv_heads == 0, wanted, self.heads)
        require("model.mask_id", self.mask_id, self.mask_id >= -1, "a token's id, or -1 for the corpus's", -1)
        self.hidden = self.hidden or -(-self.width * 8 // 3 // 8) * 8

    @property
    def head_width(self) -> int:
        return self.head or self.width // self.heads

    @property
    def matrices(self) -> int:
        """Parameters of the layers' matrices."""
        projections = 2 * self.width * (self.heads + self.kv_heads) * self.head_width
        return self.layers * (projections + 3 * self.width * self.hidden)

    def parameters(self, vocabulary: int) -> int:
        """Number of trained numbers, norms, biases and embeddings included."""
        embeddings = (1 if self.tied else 2) * vocabulary * self.width
        small = 2 * self.width + 2 * self.head_width * self.qk_norm
        small += (self.heads + 2 * self.kv_heads) * self.head_width * self.qkv_bias
        return self.matrices + embeddings + self.layers * small + self.width

    def flops(self, length: int, vocabulary: int) -> int:
        """Floating-point operations of training on one token at context `length`: 6 a matrix parameter, plus
        12 * layers * heads * head width * length for full attention scores (Kaplan et al., 2020; Chowdhery et al.,
        2022)."""
        attention = 12 * self.layers * self.heads * self.head_width * length
        return 6 * (self.matrices + self.width * vocabulary) + attention


def _divisor(shape: ModelConfig) -> int:
    return max(h for h in range(1, shape.heads + 1) if shape.width % (2 * h) == 0) if shape.width % 2 == 0 else 1

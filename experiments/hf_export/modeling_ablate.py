"""A diffusion language model for transformers, 4.57 or later: how the weights beside this file are read and decoded.

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    logits_BLV = model(tokens_BL).logits  # entry (b, i) scores token i itself, given what stands in row b
    answer_BL = model.generate_blocks(prompt_BL, max_new_tokens=32, block_size=4, pace="threshold:0.9")

`config.ablate` says who sees whom (`attention`, with blocks of `size`), which output predicts token i (i + `offset`)
and how many `tokens` there are; `config.mask_token_id` is MASK, which stands for what is not known. Without
trust_remote_code the same folder is a plain Llama, Qwen2 or Qwen3 that reads from left to right, as if it had learned
by next-token prediction.

A continuation is filled block by block (LLaDA, Nie et al., 2025). order: which token of a block is revealed next:
left_to_right, random, confidence (the largest maximum of its distribution), confidence_of_sample (of the drawn token),
margin, entropy. pace: how many in a forward pass, at least one: tokens:N; passes:N, of a block; threshold:P, while the
confidence is at least P; dynamic:F, the first n while (n + 1)(1 - c) < F for the least confidence c among them
(Fast-dLLM, Wu et al., 2025); all. `experiments/export.py` copies this file, with the architecture of the weights.

Shapes: B sequences, L positions, T positions that are read in a pass, V rows of the embedding.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

Network: Any = LlamaForCausalLM  # whose signature differs between versions of transformers
NEVER = 2**62  # block of what is not to be revealed
ORDERS = ("left_to_right", "random", "confidence", "confidence_of_sample", "margin", "entropy")


class DiffusionForCausalLM(Network):
    """The network as its last stage of training reads it, and the decoding that it was measured with."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options):
        """Output whose `logits` (B, L, V) score each position's own token; those of MASK and of rows without a token
        are -inf. Where outputs predict other tokens than their own nothing predicts position 0, whose others are 0.

        attention_mask: (B, L), 0 where padding stands, which nothing sees; positions and blocks are counted from each
        row's first real token. Raises ValueError for labels and for a cache: `generate_blocks` has its own.
        """
        for name in ("labels", "past_key_values", "cache"):
            _require(name, "one", options.pop(name, None) is None, "none, since sequences are read whole")
        real_BL = _real(input_ids, attention_mask)
        output = self._outputs(input_ids, real_BL, 0, None, **options)
        at_BL1 = _predicting(real_BL, self.config.ablate["offset"])[..., None]
        logits_BLV = output.logits.take_along_dim(at_BL1, dim=1)
        if self.config.ablate["offset"]:
            logits_BLV[_places(real_BL) == 0] = 0
        output.logits = self._allowed(logits_BLV)
        return output

    def generate(self, *_: Any, **__: Any):
        """Raises ValueError: tokens of a block are not written one behind another."""
        raise ValueError("generate: wanted generate_blocks(prompt_BL, max_new_tokens=32, block_size=4); type that")

    @torch.no_grad()
    def generate_blocks(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        block_size: int,
        grid: str | None = None,
        attention_mask: Tensor | None = None,
        order: str = "confidence",
        pace: str = "tokens:1",
        temperature: float = 0.0,
        stop_at: tuple[int, ...] = (),
        use_cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Prompts and their continuations, (B, L + max_new_tokens) int64. Rows do not influence each other, whatever
        their lengths: before shorter prompts stands padding, where attention_mask (B, L) is 0.

        grid: where blocks of `block_size` are counted from: "sequence", the first real token, the default of a network
        that was trained in blocks, or "answer", the first new token, the default of all others. On the grid of the
        sequence such a network also fills each block of its training before it begins the next. temperature: 0 takes
        the most probable token, else one is drawn from p^(1/temperature) by `generator`. stop_at: once one of these
        tokens is revealed, and all before it, it stands in the rest of the row. use_cache: what no later token can
        change, under causal and block attention, is read once; equal but for rounding. Raises ValueError for others.
        """
        said, mask_id, start = self.config.ablate, self.config.mask_token_id, input_ids.shape[1]
        by_blocks, sizes = said["attention"] == "block", (start, max_new_tokens, block_size)
        grid = grid or ("sequence" if by_blocks else "answer")
        _require("prompt, max_new_tokens, block_size", sizes, min(sizes) >= 1, "1 token or more of each")
        _require("grid", grid, grid in ("sequence", "answer"), "sequence or answer")
        tokens_BL = torch.nn.functional.pad(input_ids, (0, max_new_tokens), value=mask_id)
        real_BL = torch.nn.functional.pad(_real(input_ids, attention_mask), (0, max_new_tokens), value=True)
        left = real_BL[:, start - 1].all() and real_BL.int().diff().ge(0).all()
        _require("attention_mask", "other", left, "padding on the left of each prompt")
        hidden_BL = torch.arange(tokens_BL.shape[1], device=tokens_BL.device).expand_as(tokens_BL) >= start
        place_BL = _places(real_BL)
        block_BL = (place_BL - (place_BL[:, [start]] if grid == "answer" else 0)) // block_size
        if grid == "sequence" and by_blocks:  # the finer of the two partitions, in order
            block_BL = block_BL * place_BL.shape[1] + place_BL // said["size"]
        reader, passes_B = _Reader(self, real_BL, use_cache), torch.zeros_like(tokens_BL[:, 0])  # of the present block
        reveal = _Reveal(order, pace, temperature, generator, tokens_BL)
        while hidden_BL.any():
            now_BL = block_BL.masked_fill(~hidden_BL, NEVER)
            open_BL = hidden_BL & (now_BL == now_BL.amin(1, keepdim=True))
            token_N, chosen_BL = reveal(self._allowed(reader(tokens_BL, open_BL)), open_BL, passes_B)
            tokens_BL[chosen_BL] = token_N[chosen_BL[open_BL]]
            hidden_BL = hidden_BL & ~chosen_BL
            passes_B = torch.where((open_BL & hidden_BL).any(1), passes_B + 1, 0)
            if stop_at:
                _stop(tokens_BL, hidden_BL, start, stop_at)
        return tokens_BL

    def _allowed(self, logits: Tensor) -> Tensor:
        """-inf for MASK and for rows of the embedding without a token."""
        logits[..., self.config.mask_token_id] = -math.inf
        logits[..., self.config.ablate["tokens"] :] = -math.inf
        return logits

    def _outputs(self, tokens_BT: Tensor, real_BL: Tensor, first: int, cache: Any, **options: Any):
        """What the network says at the places `first`, first + 1, ..., given what it has kept of those before."""
        size, end = max(1, self.config.ablate["size"]), first + tokens_BT.shape[1]
        place_BL = _places(real_BL)[:, :end]
        query_BT1, key_B1L = place_BL[:, first:, None], place_BL[:, None]
        seen_BTL = {
            "causal": lambda: key_B1L <= query_BT1,
            "full": lambda: (key_B1L == key_B1L).expand(-1, end - first, -1),
            "anticausal": lambda: (key_B1L == 0) | ((key_B1L >= query_BT1) & (query_BT1 > 0)),
            "block": lambda: key_B1L // size <= query_BT1 // size,
        }[self.config.ablate["attention"]]()
        itself_TL = torch.eye(end, dtype=torch.bool, device=place_BL.device)[first:]  # no query is without a key
        seen_BTL = (seen_BTL & real_BL[:, None, :end]) | itself_TL
        bias_B1TL = torch.where(seen_BTL, 0.0, -math.inf).to(self.dtype)[:, None]
        options |= {"past_key_values": cache, "use_cache": cache is not None}
        options["position_ids"] = place_BL[:, first:].clamp_min(0)
        return super().forward(input_ids=tokens_BT, attention_mask=bias_B1TL, **options)


class _Reader:
    """Logits of the open places of B rows as they are filled from left to right, pass by pass.

    A token's keys and values are final once every token of its block of attention, and of those before, is revealed and
    has been read so. What is final in every row is kept.
    """

    def __init__(self, model: DiffusionForCausalLM, real_BL: Tensor, use_cache: bool):
        said = model.config.ablate
        self.model, self.real_BL, self.at_BL = model, real_BL, _predicting(real_BL, said["offset"])
        self.size = {"causal": 1, "block": said["size"]}.get(said["attention"], 0)
        self.cache = DynamicCache() if use_cache and self.size else None
        self.pad_B1, self.final = (~real_BL).sum(1, keepdim=True), 0  # so many places are final in every row

    def __call__(self, tokens_BL: Tensor, open_BL: Tensor) -> Tensor:
        """(N, V), row by row."""
        at_N = self.at_BL[open_BL]
        first, end = 0, tokens_BL.shape[1]
        if self.cache is not None:
            first, kept = min(self.final, int(at_N.min())), self.cache.get_seq_length()
            end_BL = self._whole(self.at_BL) + self.size  # of the block of attention in which a place is predicted
            end = min(end, int(end_BL[open_BL].max()))
            if first < kept:
                self.cache.crop(first - kept)  # so many fewer, in every version
        output = self.model._outputs(tokens_BL[:, first:end], self.real_BL, first, self.cache)
        if self.cache is not None:
            clean_BL = (tokens_BL != self.model.config.mask_token_id) | ~self.real_BL
            final_B1 = self._whole(clean_BL[:, :end].int().cumprod(1).sum(1, keepdim=True))
            self.final = max(first, int(final_B1[open_BL.any(1)].min()))
        return output.logits[open_BL.nonzero()[:, 0], at_N - first]

    def _whole(self, place_BL: Tensor) -> Tensor:
        """Where the block of attention begins that has these places."""
        return (place_BL - self.pad_B1) // self.size * self.size + self.pad_B1


def _real(tokens_BL: Tensor, attention_mask: Tensor | None) -> Tensor:
    """(B, L) bool: what is no padding."""
    real_BL = torch.ones_like(tokens_BL, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    same = real_BL.shape == tokens_BL.shape
    _require("attention_mask", tuple(real_BL.shape), same, f"the shape {tuple(tokens_BL.shape)} of the tokens")
    return real_BL


def _places(real_BL: Tensor) -> Tensor:
    """Positions counted from each row's first real token; before it they are negative."""
    return torch.arange(real_BL.shape[1], device=real_BL.device) - real_BL.int().argmax(1, keepdim=True)


def _predicting(real_BL: Tensor, offset: int) -> Tensor:
    """(B, L): the place whose output predicts this one; behind the last one the first real one is read."""
    at_BL = torch.arange(real_BL.shape[1], device=real_BL.device).expand(real_BL.shape) + offset
    return torch.where(at_BL < real_BL.shape[1], at_BL, real_BL.int().argmax(1, keepdim=True)).clamp_min(0)


def _require(name: str, came: object, holds: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name}: wanted {wanted}, got {came!r}")


class _Reveal:
    """What a pass reveals. Raises ValueError for an order, a pace or a temperature that is none."""

    def __init__(self, order: str, pace: str, temperature: float, generator: torch.Generator | None, tokens_BL: Tensor):
        self.order, self.temperature, self.generator = order, temperature, generator
        self.rule, _, typed = pace.partition(":")
        try:
            self.number = n = float(typed or 0)
        except ValueError:
            self.number = n = math.nan
        most = 2**32  # tokens or passes
        whole, some = 1 <= n <= most and n == n // 1, 0 < n < math.inf
        legal = {"tokens": whole, "passes": whole, "threshold": 0 < n <= 1, "dynamic": some, "all": pace == "all"}
        _require("pace", pace, legal.get(self.rule), "tokens:N, passes:N, threshold:P, dynamic:F or all")
        _require("order", order, order in ORDERS, f"one of {', '.join(ORDERS)}")
        _require("temperature", temperature, 0 <= temperature < math.inf, "0, which is greedy, or more")
        self.key_BL = torch.rand(tokens_BL.shape, generator=generator, device=tokens_BL.device, dtype=torch.float64)

    def __call__(self, logits_NV: Tensor, open_BL: Tensor, passes_B: Tensor) -> tuple[Tensor, Tensor]:
        """The token of each open place (N,), and (B, L) bool, which of them are revealed."""
        logp_NV = logits_NV.float().log_softmax(-1)
        token_N = logp_NV.argmax(-1)
        if self.temperature:
            p_NV = (logp_NV.double() / self.temperature).softmax(-1)
            token_N = torch.multinomial(p_NV, 1, generator=self.generator)[:, 0]
        sampled_N = logp_NV.gather(1, token_N[:, None])[:, 0].double()
        best_N2 = logp_NV.topk(min(2, logp_NV.shape[1]), dim=-1).values.double()
        priority_N = {
            "left_to_right": lambda: -open_BL.nonzero()[:, 1].double(),
            "random": lambda: self.key_BL[open_BL],
            "confidence": lambda: best_N2[:, 0],
            "confidence_of_sample": lambda: sampled_N,
            "margin": lambda: best_N2[:, 0].exp() - best_N2[:, -1].exp(),
            "entropy": lambda: -torch.special.entr(logp_NV.double().exp()).sum(-1),
        }[self.order]()
        sure_N = sampled_N if self.order == "confidence_of_sample" else best_N2[:, 0]
        priority_BL = torch.full(open_BL.shape, -math.inf, dtype=torch.float64, device=open_BL.device)
        sure_BL = torch.zeros_like(priority_BL)
        priority_BL[open_BL], sure_BL[open_BL] = priority_N.clamp_min(torch.finfo(torch.float64).min), sure_N.exp()
        ranked_BL = priority_BL.argsort(dim=1, descending=True, stable=True)  # of equals the leftmost
        count_B = self._count(open_BL.sum(1), sure_BL.gather(1, ranked_BL), passes_B)
        return token_N, open_BL & (ranked_BL.argsort(1) < count_B[:, None])

    def _count(self, open_B: Tensor, sure_BL: Tensor, passes_B: Tensor) -> Tensor:
        """(B,) how many places, from their confidences in the order of revealing."""
        least_BL, n_L = sure_BL.cummin(1).values, torch.arange(1, sure_BL.shape[1] + 1, device=sure_BL.device)
        count_B = {
            "tokens": lambda: torch.full_like(open_B, int(self.number)),
            "passes": lambda: -(-open_B // (int(self.number) - passes_B).clamp_min(1)),
            "all": lambda: open_B,
            "threshold": lambda: (least_BL >= self.number).int().cumprod(1).sum(1),
            "dynamic": lambda: ((n_L + 1) * (1 - least_BL) < self.number).int().cumprod(1).sum(1),
        }[self.rule]()
        return torch.minimum(count_B.clamp_min(1), open_B)


def _stop(tokens_BL: Tensor, hidden_BL: Tensor, start: int, ends: tuple[int, ...]) -> None:
    """Fills rows, in place, in which an end token stands and nothing before it is open."""
    end_BL = torch.isin(tokens_BL, torch.tensor(ends, device=tokens_BL.device)) & (hidden_BL.cumsum(1) == 0)
    end_BL[:, :start] = False
    behind_BL = end_BL.cumsum(1) - end_BL.int() > 0
    first_B1 = end_BL.int().argmax(1, keepdim=True)
    tokens_BL[behind_BL] = tokens_BL.gather(1, first_B1).expand_as(tokens_BL)[behind_BL]
    hidden_BL[behind_BL] = False

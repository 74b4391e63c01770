"""A diffusion language model for transformers, 4.57 or later: how the weights beside this file are read and decoded.

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    logits_BLV = model(tokens_BL).logits  # entry (b, i) scores token i itself, given what stands in row b
    answer_BL = model.generate_blocks(prompt_BL, max_new_tokens=32, block_size=4)

`config.ablate` says who sees whom (`attention`, with blocks of `size`), which output predicts token i (i + `offset`)
and how many `tokens` there are; `config.mask_token_id` is MASK, which stands for what is not known. Without
trust_remote_code the same folder is a plain Llama, Qwen2 or Qwen3 that reads from left to right, as if it had learned
by next-token prediction.

`experiments/export.py` copies this file, with the architecture that the weights have; it needs torch and transformers.

Shapes: B sequences, L positions, V rows of the embedding.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

Network: Any = LlamaForCausalLM  # whose signature differs between versions of transformers


class DiffusionForCausalLM(Network):
    """The network as its last stage of training reads it, and the decoding that it was measured with."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options):
        """Output whose `logits` (B, L, V) score each position's own token; those of MASK and of rows without a token
        are -inf. Where outputs predict other tokens than their own nothing predicts position 0, whose others are 0.

        Rows must have one length: raises ValueError for padding, for labels and for a cache.
        """
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("attention_mask: wanted rows of one length, without padding; leave it out")
        refused = [name for name in ("labels", "past_key_values", "cache") if options.pop(name, None) is not None]
        if refused:
            raise ValueError(f"{refused[0]}: whole sequences are read, and none is trained here; leave it out")
        said = self.config.ablate
        bias_11LL = self._bias(input_ids.shape[1], input_ids.device)
        output = super().forward(input_ids=input_ids, attention_mask=bias_11LL, **{**options, "use_cache": False})
        logits_BLV = output.logits.roll(-said["offset"], dims=1)
        if said["offset"]:
            logits_BLV[:, 0] = 0
        logits_BLV[..., self.config.mask_token_id] = -math.inf
        logits_BLV[..., said["tokens"] :] = -math.inf
        output.logits = logits_BLV
        return output

    def _bias(self, length: int, device: torch.device) -> Tensor:
        """(1, 1, L, L): 0 where query i (row) may see key j (column), -inf elsewhere."""
        query_L1, key_1L = torch.arange(length, device=device)[:, None], torch.arange(length, device=device)[None]
        size = max(1, self.config.ablate["size"])
        seen_LL = {
            "causal": key_1L <= query_L1,
            "full": torch.ones(length, length, dtype=torch.bool, device=device),
            "anticausal": (key_1L == 0) | ((key_1L >= query_L1) & (query_L1 > 0)),
            "block": key_1L // size <= query_L1 // size,
        }[self.config.ablate["attention"]]
        return torch.zeros(length, length, dtype=self.dtype, device=device).masked_fill(~seen_LL, -math.inf)[None, None]

    @torch.no_grad()
    def generate_blocks(
        self, input_ids: Tensor, max_new_tokens: int, block_size: int, grid: str | None = None
    ) -> Tensor:
        """Prompts and their continuations, (B, L + max_new_tokens) int64.

        The whole continuation stands there as MASK. It is filled block by block, left to right; within a block the most
        confident token is revealed first, one in each forward pass (LLaDA, Nie et al., 2025). Greedy; rows do not
        influence each other.

        grid: where blocks of `block_size` are counted from: "sequence", position 0, the default of a network that was
        trained in blocks, or "answer", the first new token, the default of all others. On the grid of the sequence such
        a network also fills each block of its training before it begins the next. Raises ValueError for an empty
        prompt, for numbers below 1 and for another grid.
        """
        rows, start = input_ids.shape
        if min(start, max_new_tokens, block_size) < 1:
            raise ValueError(
                f"wanted a prompt, max_new_tokens and block_size of 1 or more, got {start} tokens, "
                f"{max_new_tokens} and {block_size}"
            )
        said, mask_id = self.config.ablate, self.config.mask_token_id
        grid = grid or ("sequence" if said["attention"] == "block" else "answer")
        if grid not in ("sequence", "answer"):
            raise ValueError(f"grid: wanted sequence or answer, got {grid!r}")
        tokens_BL = torch.cat([input_ids, input_ids.new_full((rows, max_new_tokens), mask_id)], 1)
        place_L = torch.arange(start + max_new_tokens, device=input_ids.device)
        block_L = _block_of(place_L, block_size, start if grid == "answer" else 0)
        if grid == "sequence" and said["attention"] == "block":
            block_L = block_L * len(place_L) + _block_of(place_L, said["size"])
        for block in block_L[start:].unique().tolist():
            inside_S = ((block_L == block) & (place_L >= start)).nonzero()[:, 0]
            for _ in inside_S:
                logp_BSV = self(tokens_BL).logits[:, inside_S].float().log_softmax(-1)
                confidence_BS, token_BS = logp_BSV.max(-1)
                hidden_BS = tokens_BL[:, inside_S] == mask_id
                chosen_B1 = confidence_BS.masked_fill(~hidden_BS, -math.inf).argmax(1, keepdim=True)
                tokens_BL.scatter_(1, inside_S[chosen_B1], token_BS.gather(1, chosen_B1))
        return tokens_BL


def _block_of(place_L: Tensor, size: int, offset: int = 0) -> Tensor:
    """Block of each position; `offset` is where the first block that is not cut begins."""
    return (place_L + -offset % size) // size

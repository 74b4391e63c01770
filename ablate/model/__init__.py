"""The Transformer, its attention patterns, and checkpoints of Hugging Face.

Sizes: config.py. Who sees whom: attention_pattern.py; how it is computed: attention.py, flex_attention.py. The network:
transformer.py; keys and values that it keeps: kv_cache.py. A further model family for init=hf: hf_config.py (names and
shapes), hf_weights.py (files).
"""

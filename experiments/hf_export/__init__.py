"""A finished run as a folder for transformers: tokenizer_files.py writes the tokenizer, model_card.py the README.
modeling_ablate.py is copied into the folder and read by transformers there; edit it for how an exported network attends
and decodes."""

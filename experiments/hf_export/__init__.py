"""A finished run as a folder for transformers: finished_run.py reads the run, tokenizer_files.py writes the tokenizer,
model_card.py the README. modeling_ablate.py is copied into the folder and read by transformers there; edit it for how
an exported network attends and decodes."""

"""Real text: folders are read, filtered, split, tokenized once into a cache and cut into windows.

Corpora by name: corpora.py. Which files, in what order: sources.py, readers.py. What is held out: document_split.py,
near_duplicates.py. BPE or a checkpoint's tokenizer: tokenizer.py. Windows and padding: packing.py.
"""

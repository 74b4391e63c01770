"""What every other package stands on: the corpus protocols, addressed random numbers, files, records, provenance.

New column of records: records.py. What a corpus must offer: corpus.py. How files are written, locked and hashed:
storage.py. Versions, machine and source hash: provenance.py. Random numbers by (seed, stream, index): rng.py.
Ranges of config fields: validation.py.
"""

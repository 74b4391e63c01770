"""How answers are decoded: a network read as its objective reads it, and the loop that reveals tokens.

What a model predicts: predictor.py. What can be chosen: protocol.py. A new order: orders.py. What a pass reveals:
answers.py. The passes: loop.py. Reading with a cache: cached_reader.py, which is exact, and prefix_reader.py.
"""

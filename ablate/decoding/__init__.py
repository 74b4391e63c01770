"""How answers are decoded: a network read as its objective reads it, and the loop that reveals tokens.

What a model predicts: predictor.py. Blocks, order and pace of revealing: loop.py.
"""

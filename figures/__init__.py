"""Figures are functions of tidy rows alone: no torch, no checkpoint. One file a claim.

Fonts and colours: drawing/style.py. Curves of the paper: paper/. Surveys: contexts/. Masks and gradients: noise/. What
runs and studies reached: learning/. Which rows a figure takes: paper_figs.py beside this folder.
"""

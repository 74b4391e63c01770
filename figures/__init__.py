"""Figures are functions of tidy rows alone: no torch, no checkpoint. One file a claim. Edit drawing/style.py for fonts and
colours, paper/ for curves of the paper, contexts/ for figures of surveys, noise/ for masks and gradients, learning/ for
what runs and studies reached. paper_figs.py beside this folder says which rows each figure takes."""

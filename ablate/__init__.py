"""A laboratory for the order in which a language model learns to be a diffusion language model.

The nouns, in the order in which data flows through them (nothing flows back):

    Corpus   one law of token sequences, with its exact Oracle where one exists       ablate.corpus
    Objective.pose -> Problem   what the network reads, what it is scored on          ablate.objective
    NoiseSchedule, RateDistribution   where mask rates come from, and their weights            ablate.schedule
    Corruption.masks -> Masks   which tokens are hidden, and what each counts         ablate.masks
    Transformer(ModelConfig)   logits under a Pattern of attention given as an argument     ablate.model
    Stage, Regime   which objective, for how long, at which learning rate             ablate.regime
    predict(tokens_BL) -> logp_BLV   all that decoding and probes see of a model      ablate.decode
    Law.draw -> Contexts   what is visible when a token is predicted                  ablate.contexts
    Survey   what a corpus asks of a learner, measured before any training            ablate.survey
    Probe.measure -> rows   one tidy row per measurement                              ablate.probe
    Run, train(run)   a resumable run that leaves records, manifest and checkpoint    ablate.run

A noun is a plain dataclass and is its own configuration; treat it as immutable. Nothing is imported here, so
that figures can read records without torch and `--help` answers without it.
"""

"""A laboratory for the order in which a language model learns to be a diffusion language model.

Data flows one way, and nothing flows back:

    Corpus.batch        token sequences of one distribution, with an exact Oracle where one exists     ablate.core
    Objective.pose      -> Problem: what the network reads, what it is scored on                       ablate.objectives
    NoiseSchedule, RateDistribution   where mask rates come from, and their weights                    ablate.noise
    Transformer         logits under an attention pattern that is an argument                          ablate.model
    predict(tokens_BL)  -> logp_BLV: all that decoding and probes see of a model                       ablate.decoding
    Probe.measure       -> rows: one tidy row a measurement                                            ablate.evaluation
    Run, train(run)     a resumable run that leaves records, manifest and checkpoint                   ablate.training
    Study               arms that differ in one factor, predictions, verdicts                          ablate.studies

Each configuration is a plain dataclass; treat it as immutable. Nothing is imported here, so that figures can read
records without torch and `--help` answers without it.
"""

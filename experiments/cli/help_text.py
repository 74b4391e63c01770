"""What --help prints: the groups and what they hold, the plain keys, examples."""

from __future__ import annotations

import dataclasses
from typing import Any

from ablate.training.run_config import Run
from experiments.presets.registry import DEFAULTS, GROUPS


def run_help() -> str:
    """What --help prints: the groups and what they hold, the plain keys, examples."""
    lines = ["One arm of the experiment on one seed: base model, stages, probes, records, figure.", ""]
    lines += ["  python experiments/run.py [regime=NAME] [corpus=NAME] [model=NAME] [budget=NAME] [key=value ...]", ""]
    lines += [*_groups("regime", "corpus", "model", "budget"), _keys(Run)]
    lines += [
        "Every field of a noun is a key too: regime.stages.1.steps=300  corpus.checksum=7  base.lr=1e-3",
        "init=hf:FOLDER           a checkpoint as base model, with its shape and tokenizer; see docs/checkpoints.md",
        "model=hf:FOLDER          its shape alone, likewise model=PATH/config.json",
        "-m regime=a,b seed=0,1   every combination, one after the other",
        "torchrun --standalone --nproc-per-node 2 experiments/run.py ...   several processes; docs/processes.md",
        "--cfg job                print the configuration and stop",
        '-sc install=bash         print tab completion for: eval "$(python experiments/run.py -sc install=bash)"',
    ]
    return "\n".join(lines)


def survey_help() -> str:
    """The same of the survey."""
    from ablate.analysis.corpus_survey import Survey

    lines = [
        "What a corpus asks before any training: K(c) by law of contexts, visits, predicted cost.",
        "",
    ]
    lines += ["  python experiments/knowledge.py [corpus=NAME] [key=value ...]", ""]
    lines += [*_groups("corpus"), _keys(Survey)]
    lines += [
        "Every field of a noun is a key too: corpus.digits=8  corpus.split=test  thresholds.reasoning=2",
        "-m corpus=a,b   every combination, one after the other",
        "--cfg job       print the configuration and stop",
    ]
    return "\n".join(lines)


def warmup_help() -> str:
    """The same of the warmup study."""
    from experiments.warmup import WarmupStudy

    lines = [
        "The 2x2 of a mask-rate warmup: cap on or off, weight dropped or kept, and AR beside it; all from one base.",
        "",
    ]
    lines += ["  python experiments/warmup.py [corpus=NAME] [model=NAME] [budget=NAME] [key=value ...]", ""]
    lines += [*_groups("corpus", "model", "budget"), _keys(WarmupStudy)]
    lines += [
        "Every field of a noun is a key too: corpus.operations=12  budget.tokens=3000000",
        "--cfg job       print the configuration and stop",
    ]
    return "\n".join(lines)


def variance_help() -> str:
    """The same of the gradient's variance."""
    from experiments.variance import VarianceStudy

    lines = ["Variance of the gradient at the base model, per schedule: which data, which mask rate, which mask.", ""]
    lines += ["  python experiments/variance.py [corpus=NAME] [model=NAME] [budget=NAME] [key=value ...]", ""]
    lines += [*_groups("corpus", "model", "budget"), _keys(VarianceStudy)]
    lines += [
        "Every field of a noun is a key too: corpus.operations=12  budget.base_tokens=3000000",
        "-m seed=0,1     every combination, one after the other",
        "--cfg job       print the configuration and stop",
    ]
    return "\n".join(lines)


def one_step_help() -> str:
    """The same of one step."""
    from experiments.one_step import OneStep

    lines = ["One real optimisation step of any shape on the CPU, in bf16: about 8 bytes a parameter.", ""]
    lines += ["  python experiments/one_step.py model=2.5b [length=N] [key=value ...]", ""]
    lines += [*_groups("model"), _keys(OneStep)]
    return "\n".join(lines)


def study_help() -> str:
    """The studies that ship, each with question, command and cost."""
    from experiments.study import Assignment

    lines = ["A controlled study: arms that differ in one declared factor, paired by seed.", ""]
    lines += ["  python experiments/study.py [study=NAME] [workers=N] [key=value ...]", ""]
    for name, study in GROUPS["study"].items():
        runs = len(study.arms) * len(study.conditions) * len(study.seeds)
        lines += [
            f"{name}: {study.question}",
            f"    python experiments/study.py study={name} workers=2",
            f"    arms {', '.join(arm.name for arm in study.arms)}",
            f"    conditions {', '.join(c.name for c in study.conditions)}; {len(study.seeds)} seeds; "
            f"{runs} runs, {study.cost}",
            "",
        ]
    lines += [
        _keys(Assignment),
        "Every field of a study is a key too: study.seeds=[1,2]  study.name=mine",
        "\"words=['budget=smoke']\"   further words for every run (another study: type study.name=mine as well)",
        "only=[trace]           some conditions; results are added to those of the others",
    ]
    return "\n".join(lines)


def sweep_help() -> str:
    """The search spaces that ship, each with question, command and cost; what runs take is run.py's."""
    from experiments.sweep import OBJECTIVES, Search

    lines = ["A sweep by Optuna: trials of a space's values, each a run.py on several seeds.", ""]
    lines += ["  python experiments/sweep.py [sweep=NAME] [trials=N] [workers=N] [regime=NAME] [key=value ...]", ""]
    for name, space in GROUPS["sweep"].items():
        lines += [
            f"{name}: {space.question}",
            f"    python experiments/sweep.py {space.command}",
            f"    parameters {', '.join(p.name for p in space.parameters)}; {space.cost}",
            "",
        ]
    lines += [
        *_groups("regime", "corpus", "model", "budget"),
        _keys(Search),
        f"objectives (less is better): {', '.join(OBJECTIVES)}",
        "Every other key is run.py's and reaches each run as typed: corpus=trace  budget=study  batch=32",
        "Every field of a space is a key too: sweep.parameters.0.values=[1,2,4]  name=mine",
        "seeds=[100,101]   of each trial, whose value is the mean over them",
        "storage=URL       a database in place of the journal file runs/NAME/journal.log",
        "--cfg job         print the configuration and stop; the same command resumes a sweep",
    ]
    return "\n".join(lines)


def plan_help() -> str:
    """The same of the plan of a training."""
    from ablate.compute.training_plan import Plan

    lines = ["What a training takes before it starts: parameters, memory, FLOPs, tokens a second, days.", ""]
    lines += ["  python experiments/plan.py [model=NAME] [regime=NAME] [gpus=N] [key=value ...]", ""]
    lines += [
        *_groups("regime", "model"),
        _keys(Plan),
        "Every field of a noun is a key too: regime.stages.1.objective.draws=2  model.layers=32",
        "-m gpus=8,64 strategy=ddp,fsdp   every combination, one after the other",
        "--cfg job                        print the configuration and stop",
    ]
    return "\n".join(lines)


def _groups(*groups: str) -> list[str]:
    lines = []
    for group in groups:
        lines.append(f"{group} (default {DEFAULTS[group]})")
        lines += [f"  {name:<18} {SUMMARIES[group](noun)}" for name, noun in GROUPS[group].items()]
        lines.append("")
    return lines


def _keys(noun: type) -> str:
    defaults = {f.name: f.default for f in dataclasses.fields(noun) if f.default is not dataclasses.MISSING}
    return "keys: " + "  ".join(f"{name}={shown(value)}" for name, value in defaults.items())


def _stages(regime: Any) -> str:
    stages = (f"{s.objective.label} {s.share:.0%}" for s in regime.stages)
    return " -> ".join(stages)


def _first_line(noun: Any) -> str:
    return (type(noun).__doc__ or "").splitlines()[0]


def _fields(noun: Any) -> str:
    return ", ".join(f"{f.name} {shown(getattr(noun, f.name))}" for f in dataclasses.fields(noun))


def _shape(shape: Any) -> str:
    """What differs from the defaults, and how many parameters that makes."""
    said = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape) if getattr(shape, f.name) != f.default}
    fields = ", ".join(f"{name} {shown(value)}" for name, value in said.items() if name != "rope_scaling")
    count = shape.parameters(shape.vocabulary)
    more = "" if shape.vocabulary else f" and {shape.parameters(1) - count} a token of the corpus"
    return f"{fields}: {count / 1e6:,.1f}M parameters{more}"


SUMMARIES = {"regime": _stages, "corpus": _first_line, "model": _shape, "budget": _fields}


def shown(value: Any) -> str:
    """A value as the command line would take it."""
    return str(getattr(value, "value", value)).replace(" ", "")

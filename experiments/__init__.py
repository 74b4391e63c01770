"""The commands, one file each: `python experiments/run.py`, `python -m experiments.run` or `ablate run`. To change a
regime, a study or a budget edit presets/; the command line and its help cli/; how a study or a sweep is carried out
study_runner/ or sweep_runner/; an export hf_export/; what is timed benchmarks/; a table of results reports/."""

# Nothing is imported but what the interpreter itself has loaded: the current folder may still come first on the path.
import os
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(FOLDER)


def _keep_other_folders_off_the_path() -> None:
    """Takes the folder of the script, or the current folder of `python -m`, off the path; children do likewise.

    A file there, such as pickle.py or torch.py, would otherwise run in the place of the one that is meant.
    """
    started = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    by_path = os.path.dirname(os.path.realpath(started)) == FOLDER if started else False
    looked_up = sys.argv[:1] == ["-m"]  # so it reads while `python -m` looks its module up
    by_name = looked_up and any(word.removeprefix("-m").split(".")[0] == __name__ for word in sys.orig_argv[1:])
    if not by_path and not by_name:
        return  # imported by other code, whose path is its own
    if not sys.flags.safe_path:
        unwanted = FOLDER if by_path else os.getcwd()
        place = 1 if by_path and sys.path[:1] == [ROOT] else 0  # a command has put ROOT before it
        if os.path.realpath(sys.path[place] or ".") == os.path.realpath(unwanted):
            del sys.path[place]
    if ROOT not in sys.path:  # `python -m` was started in ROOT
        sys.path.insert(0, ROOT)
    if ROOT.endswith("-packages") and sys.path.count(ROOT) > 1:  # installed: the standard library stays before it
        sys.path.remove(ROOT)
    os.environ["PYTHONSAFEPATH"] = "1"


_keep_other_folders_off_the_path()

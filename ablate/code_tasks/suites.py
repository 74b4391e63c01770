"""Code benchmarks: what is asked of a model, where its answer ends, and the program that judges it.

A benchmark is a subclass of `Suite`; `SUITES` names all of them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ablate.code_tasks.code_problems import Problem, humaneval_file, read_rows
from ablate.code_tasks.sandbox import Program
from ablate.core.manifest import Shape
from ablate.core.validation import UsageError

TEXTS = [str]


@dataclass(frozen=True)
class StopRule:
    """Where an answer is cut: before the first of these texts. Records name the rule."""

    name: str
    texts: tuple[str, ...]

    def cut(self, text: str) -> str:
        return text[: min((at for at in map(text.find, self.texts) if at >= 0), default=len(text))]


class Suite(ABC):
    """A benchmark. fields: what each of its problems must have. prompt_name: of how it is asked, for records."""

    name: ClassVar[str]
    fields: ClassVar[Shape]
    prompt_name: ClassVar[str]
    stop: ClassVar[StopRule]

    def problems(self, file: Path | None) -> list[Problem]:
        """In the order of the file. Raises UsageError where it cannot be read."""
        if file is None:
            raise UsageError(f"task={self.name}: wanted the file in which it was published, got none; type file=PATH")
        return read_rows(file, self.fields)

    def task_id(self, problem: Problem) -> str:
        return str(problem["task_id"])

    @abstractmethod
    def prompt(self, problem: Problem) -> str:
        """What a model continues."""

    @abstractmethod
    def canonical(self, problem: Problem) -> str:
        """A right answer, as the benchmark has it."""

    @abstractmethod
    def program(self, problem: Problem, completion: str) -> Program:
        """What passes if and only if the answer is right."""


class HumanEval(Suite):
    """164 functions to be continued behind their docstrings (Chen et al., 2021)."""

    name = "humaneval"
    fields: ClassVar[Shape] = {
        "task_id": str,
        "prompt": str,
        "canonical_solution": str,
        "entry_point": str,
        "test": str,
    }
    prompt_name = "as published"
    stop = StopRule("next statement", ("\nclass", "\ndef", "\n#", "\nif", "\nprint"))  # section 3.2 there

    def problems(self, file: Path | None) -> list[Problem]:
        return super().problems(file or humaneval_file())

    def prompt(self, problem: Problem) -> str:
        return problem["prompt"]

    def canonical(self, problem: Problem) -> str:
        return problem["canonical_solution"]

    def program(self, problem: Problem, completion: str) -> Program:
        tests = f"{problem['test']}\n\ncheck({problem['entry_point']})\n"
        return Program(problem["prompt"] + completion, tests, _helpers(problem), problem["entry_point"])


class HumanEvalPlus(HumanEval):
    """The same with more tests (Liu et al., 2023): with its inputs, as EvalPlus publishes it, or with a test that has
    them in it, as the data set of that name does."""

    name = "humaneval_plus"
    fields: ClassVar[Shape] = {"task_id": str, "prompt": str, "canonical_solution": str, "entry_point": str}

    def problems(self, file: Path | None) -> list[Problem]:
        found = Suite.problems(self, file)
        for problem in found:
            if not isinstance(problem.get("test" if "plus_input" not in problem else "base_input"), str | list):
                raise UsageError(f"file={file}: {problem['task_id']}: wanted a test, or base_input and plus_input")
        return found

    def program(self, problem: Problem, completion: str) -> Program:
        if "plus_input" not in problem:
            return super().program(problem, completion)
        name, inputs = problem["entry_point"], [*problem["base_input"], *problem["plus_input"]]
        values = {"reference": problem["prompt"] + problem["canonical_solution"], "name": name, "inputs": inputs}
        values["atol"] = problem.get("atol", 0)
        tests = COMPARED.replace("VALUES", repr(json.dumps(values))).replace("SOLUTION", name)
        return Program(problem["prompt"] + completion, tests, _helpers(problem), name)


# Of find_zero any zero of the polynomial will do, whatever the reference finds
COMPARED = """
import copy, json, math
given = json.loads(VALUES)
reference = {}
exec(given["reference"], reference)

def near(got, wanted):
    if type(wanted) in (list, tuple) and type(got) is type(wanted) and len(got) == len(wanted):
        return all(map(near, got, wanted))
    numbers = isinstance(wanted, float) and isinstance(got, (int, float))
    return got == wanted or (numbers and math.isclose(got, wanted, rel_tol=1e-7, abs_tol=given["atol"] or 1e-6))

for words in given["inputs"]:
    got = SOLUTION(*copy.deepcopy(words))
    if given["name"] == "find_zero":
        assert abs(poly(*words, got)) <= given["atol"]
    else:
        assert near(got, reference[given["name"]](*words)), f"wrong for {words}"
"""


class Mbpp(Suite):
    """Small tasks in words (Austin et al., 2021), its test split alone: task_id 11 to 510. The whole file or the
    sanitized one."""

    name = "mbpp"
    fields: ClassVar[Shape] = {"task_id": int, "code": str, "test_list": TEXTS}
    prompt_name = "text and tests in a docstring"
    stop = StopRule("end of script", ("\nassert", '\n"""', "\nprint", "\nif __name__"))

    def problems(self, file: Path | None) -> list[Problem]:
        found = [problem for problem in super().problems(file) if 11 <= problem["task_id"] <= 510]
        if not found or not all(isinstance(_text(problem), str) for problem in found):
            raise UsageError(f"file={file}: wanted problems 11 to 510 with text or prompt, as MBPP has them")
        return found

    def prompt(self, problem: Problem) -> str:
        return '"""\n' + "\n".join([_text(problem).strip(), *problem["test_list"]]) + '\n"""\n'

    def canonical(self, problem: Problem) -> str:
        return problem["code"].replace("\r\n", "\n")

    def program(self, problem: Problem, completion: str) -> Program:
        before = [problem.get("test_setup_code") or "", *(problem.get("test_imports") or [])]
        return Program(completion, "\n".join([*before, *problem["test_list"]]))


class MbppPlus(Mbpp):
    """Some of these with more tests (Liu et al., 2023), as the data set mbppplus has them, with `test`."""

    name = "mbpp_plus"
    fields: ClassVar[Shape] = {"task_id": int, "code": str, "prompt": str, "test_list": TEXTS, "test": str}

    def problems(self, file: Path | None) -> list[Problem]:
        return Suite.problems(self, file)

    def program(self, problem: Problem, completion: str) -> Program:
        return Program(completion, "\n".join([*(problem.get("test_imports") or []), problem["test"]]))


class CruxevalOutput(Suite):
    """What a function returns for an input (Gu et al., 2024). The answer is an expression; it cannot call the
    function, which its process does not have."""

    name = "cruxeval_output"
    fields: ClassVar[Shape] = {"id": str, "code": str, "input": str, "output": str}
    prompt_name = "assertion, output open"
    stop = StopRule("end of line", ("\n",))

    def task_id(self, problem: Problem) -> str:
        return problem["id"]

    def prompt(self, problem: Problem) -> str:
        return f"{problem['code']}\n\nassert f({problem['input']}) =="

    def canonical(self, problem: Problem) -> str:
        return f" {problem['output']}"

    def program(self, problem: Problem, completion: str) -> Program:
        return Program(
            f"answer = {completion.strip()}\n", f"assert answer == f({problem['input']})\n", problem["code"], "answer"
        )


class CruxevalInput(CruxevalOutput):
    """An input for which a function returns an output. Any that does is right."""

    name = "cruxeval_input"
    prompt_name = "assertion, input open"

    def prompt(self, problem: Problem) -> str:
        return f"{problem['code']}\n\nassert {problem['output']} == f("

    def canonical(self, problem: Problem) -> str:
        return f"{problem['input']})"

    def program(self, problem: Problem, completion: str) -> Program:
        solution = f"def f(*args, **named):\n    return args, named\n\nanswer = f({completion.strip()}\n"
        tests = f"args, named = answer\nassert {problem['output']} == f(*args, **named)\n"
        return Program(solution, tests, problem["code"], "answer")


def _helpers(problem: Problem) -> str:
    """What stands in the prompt beside the function that is asked for: tests use it, not the solution's."""
    return f"{problem['prompt'].rstrip()}\n    pass\n"


def _text(problem: Problem) -> str:
    return problem.get("text") or problem.get("prompt") or ""


SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (HumanEval(), HumanEvalPlus(), Mbpp(), MbppPlus(), CruxevalOutput(), CruxevalInput())
}

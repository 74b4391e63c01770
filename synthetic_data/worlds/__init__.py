"""The worlds, one file each: trace.py, arithmetic.py, facts.py, programs.py; noisy.py wraps one. world.py has
what they share, held_out.py the rule of the test split; operators.py, people.py and expressions.py are their parts.
A new world gets a file here and a line in synthetic_data/__init__.py."""

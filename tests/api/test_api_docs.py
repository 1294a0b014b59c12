"""docs/api.md is true: its blocks run in order, and say what it says that they say."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from replay_kit import PCAPS, ROOT

PAGE = ROOT / "docs" / "api.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = re.compile(r".*?  # -> (.*)")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every block, in one namespace, where pcaps/ lies; each statement with `# ->` has that value."""
    (tmp_path / "pcaps").symlink_to(PCAPS)
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    checked = 0
    for found in BLOCK.finditer(text):
        block = "\n" * text.count("\n", 0, found.start(1)) + found[1]  # so that a traceback has the page's lines
        lines = block.split("\n")
        for statement in ast.parse(block).body:
            said = SAID.fullmatch(lines[(statement.end_lineno or 0) - 1])
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), str(PAGE), "eval"), names)
                if said:
                    assert repr(value) == said[1], f"{PAGE}:{statement.lineno}"
                    checked += 1
                else:
                    assert repr(value)
            else:
                assert said is None, f"{PAGE}:{statement.lineno}: only an expression has a value"
                exec(compile(ast.Module([statement], []), str(PAGE), "exec"), names)
    assert checked == text.count("  # -> ") > 5
    assert {path.name for path in tmp_path.iterdir()} >= {"pcaps", "verdicts.pcapng"}
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "mainlin" in printed.out

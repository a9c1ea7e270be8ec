"""Examples for every command, shown in the command's --help output and in the documentation."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "attnbench run",
        "attnbench run -s gpt -s bert -v 'sdpa*,chunked'",
        "attnbench run -v chunked,sdpa --seq 1024,4096 --mask causal --direction forward_backward --dtype bfloat16",
        "attnbench run -p my_attention.py -v my-attention,sdpa --dry-run",
        "attnbench run -w b1-h8-s512-d64-float32-causal-forward -v chunked",
        "attnbench run --resume results/20260101-120000-abcd",
        "attnbench run --executor ray --address head:6379 --gpus H100,A100 -s gpt",
    ),
    "check": (
        "attnbench check chunked",
        "attnbench check --plugin my_attention.py --quick",
        "attnbench check 'sdpa*' --device cuda --thorough",
        "attnbench check --explain needle",
    ),
    "list": (
        "attnbench list variants",
        "attnbench list plugins -p my_attention.py",
        "attnbench list devices --json",
    ),
    "explain": ("attnbench explain 3f2a",),
    "report": (
        "attnbench report",
        "attnbench report results/mine --baseline naive --out page",
        "attnbench report h100 a100",
    ),
    "compare": (
        "attnbench compare old new",
        "attnbench compare old new --fail-if-slower 3% --format markdown",
    ),
    "best": ("attnbench best", "attnbench best --json > dispatch.json"),
    "export": (
        "attnbench export -o results.csv",
        "attnbench export mine --format pytest-benchmark -o mine.json",
    ),
    "import": ("attnbench import theirs.json --name theirs",),
    "publish": ("attnbench publish site",),
    "verify": ("attnbench verify results/mine --sample 10",),
    "new": ("attnbench new my-attn", "attnbench new my-attn --package attnbench-my-attn"),
    "devices": ("attnbench devices", "attnbench devices --executor ray --address head:6379"),
    "doctor": ("attnbench doctor", "attnbench doctor --json"),
    "study": ("attnbench study list", "attnbench study memory", "attnbench study context -d cuda:0"),
}


def epilog(command: str) -> str | None:
    """Return the examples to show at the end of a command's --help output, or None if the command has no examples.

    The text starts with a backspace character, so that Click does not rewrap the lines.
    """
    lines = EXAMPLES.get(command)
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None

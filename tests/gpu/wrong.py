"""Check that the conformance suite catches all mutants on a device, by the first check that the kill table names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from kill_table import catching, load, mutant_files, read_table
from tiled import Tiled


def main(device):
    """Check all mutants. Return 1 if one is not caught or the correct variant fails a check, and 0 otherwise."""
    table, missed, passes = read_table(), [], {}
    for path in mutant_files():
        _, mutant = load(path)
        level, (check, *_) = table[mutant.name]
        if check not in passes:
            passes[check] = not catching(Tiled(), "quick", [check], device)
            print(f"{'ok' if passes[check] else 'FAILED':<8}the correct variant: {check}", flush=True)
        caught = catching(mutant, level, [check], device)
        missed += [] if caught else [mutant.name]
        print(f"{'ok' if caught else 'MISSED':<8}{mutant.name}: {check}", flush=True)
    # After a CUDA error every check fails, so the results count only if the correct variant still passes.
    still_passes = not catching(Tiled(), "quick", [next(iter(passes))], device)
    print(f"{len(table) - len(missed)} of {len(table)} mutants are caught; not: {', '.join(missed) or 'none'}")
    print(f"the correct variant {'still passes' if still_passes else 'FAILS after the mutants: the results are void'}")
    return 1 if missed or not all(passes.values()) or not still_passes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

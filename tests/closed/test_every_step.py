"""After every step of a closed world, whatever happens in it, all memory, frames and skbs are accounted for."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from loop_kit import Tree, conserved, run_of_tree, wild_worlds


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=wild_worlds())
def test_nothing_is_lost_in_any_step(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        conserved(run_of_tree(tree, Path(folder)), 600)

"""The profile for Kubernetes, as far as it can be tried without a cluster: Snakemake plans with it."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.cluster.cohort import Run, write_slides
from tests.workflow.conftest import ran

PYTHON = Path(sys.prefix, "kubernetes/bin/python")
"""An environment with the plugin: it would slow every start of Snakemake in the other."""

pytestmark = pytest.mark.slow


def test_a_dry_run_plans_every_step(tmp_path):
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: Snakemake's plugin for Kubernetes is installed by `make test`")
    write_slides(tmp_path / "slides")
    run = Run(tmp_path / "run", tmp_path / "slides")
    storage = ("--default-storage-prefix", str(tmp_path / "volume"))
    code, screen = run.finish(
        run.start("--workflow-profile", "profiles/kubernetes", *storage, "--dry-run", python=str(PYTHON))
    )
    assert code == 0, screen
    slides = len(run.names)
    steps = ("tissue_tiles", "detect_shard", "merge", "geojson_overlay")
    counts = ran(CompletedProcess([], code, screen, ""))
    assert {step: counts[step] for step in steps} == dict.fromkeys(steps, slides)
    assert counts["engine"] == counts["cohort"] == 1
    assert f"{tmp_path}/volume/results/cohort_er.csv" in screen

"""Evaluate a run from its directory alone: ``python eval.py run=outputs/runs/...``."""

from efficientconv.cli import evaluate

if __name__ == "__main__":
    evaluate()
